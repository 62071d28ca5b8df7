from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from smartprof.models.attention import GroupedAttention, PaddedAttention
from smartprof.models.cache import KVCache
from smartprof.models.grouping import AttentionCosts, CallCosts, group_requests
from smartprof.models.inputs import InputLayout, Tokens, chain_tokens, packed_input
from smartprof.models.ragged import RaggedAttention
from smartprof.models.shapes import named_shape
from tests.compilers import needs_compiler

SHAPE = named_shape("tiny-llama")
CPU = torch.device("cpu")
GROUP = SHAPE.heads // SHAPE.kv_heads
FREE, DEAR = CallCosts(0.0, 1.0, 1.0), CallCosts(1e9, 1.0, 1.0)
SHARED = InputLayout(GROUP)
PAIRS = InputLayout(GROUP, costs=AttentionCosts(alone=DEAR, together=FREE))
EACH = InputLayout(GROUP, costs=AttentionCosts(alone=FREE, together=DEAR))
RAGGED = InputLayout(GROUP, costs=AttentionCosts(alone=DEAR, together=DEAR, ragged=FREE))
LAYOUTS = pytest.mark.parametrize(
    "layout",
    [SHARED, PAIRS, EACH, pytest.param(RAGGED, marks=needs_compiler)],
    ids=["shared", "pairs", "each", "ragged"],
)


def _cache(batch: int) -> KVCache:
    cache = KVCache(SHAPE, batch, 60, torch.float32, CPU)
    torch.manual_seed(0)
    cache.data.normal_()
    return cache


def _tokens(rng: np.random.Generator, counts: list[int], before: list[int]) -> Tokens:
    """Random trees behind random contexts; every token sees itself and random earlier ones."""
    request = np.repeat(np.arange(len(counts)), counts)
    place = np.concatenate([np.arange(x) for x in counts])
    width = max(counts)
    inside = np.tril(rng.random((len(counts), width, width)) < 0.5) | np.eye(width, dtype=np.bool_)
    start = np.array(before)
    position = start[request] + rng.integers(0, 3, len(request))
    inside_position = np.zeros((len(counts), width), np.int64)
    inside_position[request, place] = position
    return Tokens(
        token=rng.integers(0, SHAPE.vocab, len(request)),
        request=request,
        position=position,
        slot=start[request] + place,
        counts=np.array(counts),
        before=start,
        inside=inside,
        inside_position=inside_position,
    )


def _by_hand(
    query: torch.Tensor, cache: KVCache, tokens: Tokens, window: int | None
) -> NDArray[np.float32]:
    """One token and head at a time, over exactly the slots it may see."""
    out = np.zeros(tuple(query.shape), np.float32)
    for index, request in enumerate(tokens.request.tolist()):
        before, place = int(tokens.before[request]), int(tokens.place[index])
        seen = {x: x for x in range(before)}
        seen |= {
            before + x: int(tokens.inside_position[request, x])
            for x in np.flatnonzero(tokens.inside[request, place]).tolist()
        }
        if window is not None:
            oldest = int(tokens.position[index]) - window + 1
            seen = {slot: position for slot, position in seen.items() if position >= oldest}
        entries = request * cache.columns + np.array(sorted(seen))
        for head in range(query.shape[1]):
            keys, values = cache.data[0, :, head % SHAPE.kv_heads, entries]
            weight = torch.softmax(keys @ query[index, head] / SHAPE.head_dim**0.5, 0)
            out[index, head] = (weight @ values).numpy()
    return out


@pytest.mark.parametrize("window", [None, 5], ids=["all", "window"])
@LAYOUTS
@pytest.mark.parametrize("counts", [[1], [7], [1, 1, 1], [2, 2], [1, 9, 3, 4], [3, 1, 1, 12]])
@pytest.mark.parametrize("spare", [0, 3])
def test_every_plan_equals_attention_computed_token_by_token(
    counts: list[int], layout: InputLayout, window: int | None, spare: int
) -> None:
    rng = np.random.default_rng(sum(counts))
    cache = _cache(len(counts))
    tokens = _tokens(rng, counts, rng.integers(0, 40, len(counts)).tolist())
    batch = packed_input(cache, tokens, replace(layout, window=window), sum(counts) + spare)
    if len(counts) > 1 and layout is EACH:
        assert isinstance(batch.attention, GroupedAttention)
    if layout is SHARED:
        assert isinstance(batch.attention, PaddedAttention)
    if layout is RAGGED:
        assert isinstance(batch.attention, RaggedAttention)
    query = torch.randn(sum(counts) + spare, SHAPE.heads, SHAPE.head_dim)
    out = batch.attention(query, cache, 0)
    assert out.shape == query.shape
    assert torch.isfinite(out).all()
    expected = _by_hand(query[: sum(counts)], cache, tokens, window)
    np.testing.assert_allclose(out[: sum(counts)].numpy(), expected, atol=1e-5)


@LAYOUTS
def test_requests_that_take_no_part_change_nothing(layout: InputLayout) -> None:
    rng = np.random.default_rng(3)
    cache = _cache(4)
    all_of_them = _tokens(rng, [2, 3, 1, 4], [9, 20, 4, 1])
    some = all_of_them.request % 2 == 1
    tokens = replace(
        all_of_them,
        token=all_of_them.token[some],
        request=all_of_them.request[some],
        position=all_of_them.position[some],
        slot=all_of_them.slot[some],
        counts=np.array([0, 3, 0, 4]),
    )
    batch = packed_input(cache, tokens, layout, 7)
    query = torch.randn(7, SHAPE.heads, SHAPE.head_dim)
    expected = _by_hand(query, cache, tokens, None)
    np.testing.assert_allclose(batch.attention(query, cache, 0).numpy(), expected, atol=1e-5)


def test_a_chain_sees_itself_and_all_before_it() -> None:
    tokens = chain_tokens(np.array([5, 6, 7]), row=1, start=4)
    np.testing.assert_array_equal(tokens.slot, [4, 5, 6])
    np.testing.assert_array_equal(tokens.inside[0], np.tri(3, dtype=np.bool_))
    assert packed_input(_cache(2), tokens, SHARED, 3).entries.tolist() == [61 + 4, 61 + 5, 61 + 6]


def _partitions(items: list[int]) -> Iterator[list[list[int]]]:
    """Every way to put items into groups."""
    if not items:
        yield []
        return
    for rest in _partitions(items[1:]):
        yield [[items[0]], *rest]
        for index in range(len(rest)):
            yield [*rest[:index], [items[0], *rest[index]], *rest[index + 1 :]]


def test_requests_of_similar_length_share_a_call_and_no_pairing_is_cheaper() -> None:
    costs = AttentionCosts(alone=CallCosts(50.0, 1.0, 0.0), together=CallCosts(10.0, 1.0, 0.0))
    counts, extent = np.array([1, 3, 1, 2, 1, 1]), np.array([90, 11, 95, 30, 10, 28])
    groups = group_requests(counts, extent, costs)
    assert [x.tolist() for x in groups] == [[1, 4], [3, 5], [0, 2]]
    found = costs.seconds(groups, counts, extent)
    pairings = [
        [np.array(sorted(x)) for x in parts]
        for parts in _partitions(list(range(6)))
        if all(len(x) == 2 for x in parts)
    ]
    assert found == min(costs.seconds(x, counts, extent) for x in pairings)


def test_requests_of_equal_length_share_calls_by_width() -> None:
    counts, extent = np.array([1, 8, 2, 7]), np.array([40, 40, 40, 40])
    groups = group_requests(counts, extent, PAIRS.costs)
    assert [x.tolist() for x in groups] == [[0, 2], [1, 3]]


def test_calls_are_split_only_where_that_saves_more_than_the_calls_cost() -> None:
    counts, extent = np.array([1, 1, 1, 1]), np.array([10, 10, 20, 20])  # 20 slots to be saved
    for call, groups in ((19.0, 2), (21.0, 1)):
        costs = AttentionCosts(alone=DEAR, together=CallCosts(call, 1.0, 0.0))
        assert len(group_requests(counts, extent, costs)) == groups


def test_a_request_without_tokens_joins_no_pair() -> None:
    groups = group_requests(np.array([0, 3, 0, 4]), np.array([1, 30, 1, 90]), EACH.costs)
    assert [x.tolist() for x in groups] == [[1], [3]]


def test_nothing_is_padded_only_where_that_is_cheapest() -> None:
    groups, counts, extent = [np.arange(3)], np.array([1, 0, 2]), np.array([10, 1, 30])
    padded = CallCosts(5.0, 1.0, 0.5)  # 5 + 3 * 30 * (1 + 2 * 0.5) = 185
    for call, cheaper in ((90.0, True), (91.0, False)):
        ragged = CallCosts(call, 1.5, 0.5)  # call + 10 * (1.5 + 0.5) + 30 * (1.5 + 2 * 0.5)
        costs = AttentionCosts(alone=DEAR, together=padded, ragged=ragged)
        assert costs.prefer_ragged(groups, counts, extent) is cheaper
    assert not AttentionCosts(alone=DEAR, together=DEAR).prefer_ragged(groups, counts, extent)


def test_a_run_of_entries_is_written_as_scattered_ones_are() -> None:
    new = torch.randn(2 * SHAPE.kv_heads, 3, SHAPE.head_dim)
    scattered, run = _cache(2), _cache(2)
    for start in (5, 70):
        entries = torch.arange(start, start + 3)
        scattered.write(1, entries, new)
        run.write(1, entries, new, first_entry=start)
    torch.testing.assert_close(scattered.data, run.data, atol=0, rtol=0)


def test_only_a_gapless_pass_without_padding_is_a_run() -> None:
    cache, chain = _cache(2), chain_tokens(np.array([5, 6, 7]), row=1, start=4)
    assert packed_input(cache, chain, SHARED, 3).first_entry == 61 + 4
    assert packed_input(cache, chain, SHARED, 4).first_entry is None
    two = _tokens(np.random.default_rng(0), [2, 1], [3, 8])
    assert packed_input(cache, two, SHARED, 3).first_entry is None


def test_views_of_rows_are_those_asked_for_however_many_were_asked_before() -> None:
    cache = _cache(2)
    by_request = cache.data.unflatten(3, (2, cache.columns))
    for length in (*range(1, 20), 3, 7):
        for row in (0, 1):
            keys, values = cache.view(1, slice(row, row + 1), length)
            torch.testing.assert_close(keys[0], by_request[1, 0, :, row, :length])
            torch.testing.assert_close(values[0], by_request[1, 1, :, row, :length])


def test_features_move_with_the_keys_of_their_tokens() -> None:
    cache = KVCache(SHAPE, 2, 9, torch.float32, CPU, taps=(0, 1))
    entries = torch.arange(20)
    for tap in (0, 1):
        cache.write_feature(
            tap, entries, torch.full((20, SHAPE.hidden), 100.0 * tap) + entries[:, None]
        )
    cache.data.copy_(entries[:, None].expand_as(cache.data))
    cache.move(torch.tensor([5, 7]), torch.tensor([1, 2]))
    cache.move_row(0, 1, 3)
    for places, sources in (([1, 2], [5, 7]), ([10, 11, 12, 13], [0, 5, 7, 13])):
        wanted = torch.tensor(sources, dtype=torch.float32)
        torch.testing.assert_close(cache.data[0, 0, 0, places, 0], wanted)
        torch.testing.assert_close(cache.features[places, 0], wanted)
        torch.testing.assert_close(cache.features[places, SHAPE.hidden], wanted + 100)

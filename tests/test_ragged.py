from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from smartprof.models import ragged, tuning
from smartprof.models.attention_probe import RAGGED, measure_attention
from smartprof.models.cache import KVCache
from smartprof.models.inputs import InputLayout, Tokens, chain_tokens, packed_input
from smartprof.models.ragged import RaggedAttention, RaggedFunction, load_ragged
from smartprof.models.shapes import ModelShape, named_shape
from tests.compilers import needs_compiler

pytestmark = needs_compiler
TINY = named_shape("tiny-llama")
CPU = torch.device("cpu")
ROWS = 300  # slots of a request; several blocks


def shape_of(heads: int, kv_heads: int, head_dim: int) -> ModelShape:
    return replace(TINY, heads=heads, kv_heads=kv_heads, head_dim=head_dim, layers=2)


def cache_of(shape: ModelShape, batch: int) -> KVCache:
    cache = KVCache(shape, batch, ROWS, torch.float32, CPU)
    cache.data.normal_(generator=torch.Generator().manual_seed(batch))
    return cache


def layout_of(shape: ModelShape, window: int | None = None) -> InputLayout:
    return InputLayout(shape.heads // shape.kv_heads, window, RAGGED)


def trees(rng: np.random.Generator, counts: list[int], before: list[int]) -> Tokens:
    """Every token sees itself and about half of those before it; positions are those of slots."""
    request = np.repeat(np.arange(len(counts)), counts)
    place = np.concatenate([np.arange(x) for x in counts])
    width = max(counts)
    start = np.array(before)
    return Tokens(
        token=np.zeros(len(request), np.int64),
        request=request,
        position=start[request] + place,
        slot=start[request] + place,
        counts=np.array(counts),
        before=start,
        inside=np.tril(rng.random((len(counts), width, width)) < 0.5) | np.eye(width, dtype=bool),
        inside_position=start[:, None] + np.arange(width),
    )


def in_double(
    query: torch.Tensor, cache: KVCache, tokens: Tokens, layer: int, window: int | None
) -> NDArray[np.float64]:
    """One token and head at a time, in float64, over the slots that it sees."""
    data, out = cache.data[layer].double(), np.zeros(tuple(query.shape))
    for index, request in enumerate(tokens.request.tolist()):
        before, place = int(tokens.before[request]), int(tokens.place[index])
        inside = np.flatnonzero(tokens.inside[request, place])
        seen = np.concatenate([np.arange(before), before + inside])
        if window is not None:
            seen = seen[seen > tokens.position[index] - window]
        entries = (tokens.first_row + request) * cache.columns + seen
        for head in range(query.shape[1]):
            keys, values = data[:, head % cache.kv_heads, entries]
            scores = keys @ query[index, head].double() / query.shape[2] ** 0.5
            out[index, head] = (scores.softmax(0) @ values).numpy()
    return out


def random_query(tokens: int, shape: ModelShape) -> torch.Tensor:
    generator = torch.Generator().manual_seed(tokens)
    return torch.randn(tokens, shape.heads, shape.head_dim, generator=generator)


@pytest.mark.parametrize("window", [None, 5, 100], ids="window {}".format)
@pytest.mark.parametrize(
    "heads", [(9, 3, 64), (4, 4, 8), (14, 2, 80), (8, 1, 128), (24, 1, 16)], ids=str
)
def test_it_is_attention_computed_in_float64(
    heads: tuple[int, int, int], window: int | None
) -> None:
    """Over blocks and beyond their ends, requests of any lengths, one of them without tokens."""
    shape, rng = shape_of(*heads), np.random.default_rng(heads[2])
    cache = cache_of(shape, 6)
    tokens = trees(rng, [1, 70, 3, 0, 2], [0, 200, 63, 9, 128])
    tokens = replace(tokens, first_row=1)
    query = random_query(76 + 2, shape)
    batch = packed_input(cache, tokens, layout_of(shape, window), len(query))
    assert isinstance(batch.attention, RaggedAttention)
    for layer in (1, 0):
        found = batch.attention(query, cache, layer)
        expected = in_double(query[:76], cache, tokens, layer, window)
        np.testing.assert_allclose(found[:76].numpy(), expected, atol=2e-6, rtol=1e-5)
        assert torch.isfinite(found).all()


def test_a_token_may_see_others_behind_it() -> None:
    """Those of another task and of another block of slots, too."""
    cache, tokens = cache_of(TINY, 1), trees(np.random.default_rng(0), [40], [50])
    inside = np.eye(40, dtype=np.bool_)[None].copy()
    inside[0, 2] = True
    tokens = replace(tokens, inside=inside)
    query = random_query(40, TINY)
    found = packed_input(cache, tokens, layout_of(TINY), 40).attention(query, cache, 0)
    expected = in_double(query, cache, tokens, 0, None)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 8.0, 60.0, 1e4])
def test_weights_may_differ_by_any_factor(scale: float) -> None:
    cache, tokens = cache_of(TINY, 1), chain_tokens(np.zeros(9, np.int64), row=0, start=190)
    query = scale * random_query(9, TINY)
    found = packed_input(cache, tokens, layout_of(TINY), 9).attention(query, cache, 0)
    expected = in_double(query, cache, tokens, 0, None)
    # A score's own rounding, relative to it, is an error of its weight.
    np.testing.assert_allclose(found.numpy(), expected, atol=max(1e-6, 1e-6 * scale), rtol=1e-5)


def test_what_a_token_gets_depends_on_no_other_token() -> None:
    """Bit for bit: alone and behind others of its tree, alone and beside other requests."""
    shape = shape_of(9, 3, 64)
    cache, layout = cache_of(shape, 3), layout_of(shape)
    query = random_query(60, shape)
    chain = chain_tokens(np.zeros(60, np.int64), row=1, start=100)
    together = packed_input(cache, chain, layout, 60).attention(query, cache, 0).clone()
    for index in range(60):
        one = chain_tokens(np.zeros(1, np.int64), row=1, start=100 + index)
        alone = packed_input(cache, one, layout, 1).attention(query[index : index + 1], cache, 0)
        assert torch.equal(alone[0], together[index])
    others = trees(np.random.default_rng(0), [5, 1, 7], [30, 100, 250])
    beside = torch.cat([random_query(5, shape), query[:1], random_query(7, shape)])
    found = packed_input(cache, others, layout, 13).attention(beside, cache, 0)
    assert torch.equal(found[5], together[0])


def test_heads_may_lie_apart_from_token_to_token() -> None:
    cache, tokens = cache_of(TINY, 1), chain_tokens(np.zeros(4, np.int64), row=0, start=70)
    wide = torch.randn(4, 3 * TINY.heads, TINY.head_dim)
    query = wide[:, TINY.heads : 2 * TINY.heads]
    attention = packed_input(cache, tokens, layout_of(TINY), 4).attention
    found = attention(query, cache, 0).clone()
    assert torch.equal(attention(query.contiguous(), cache, 0), found)


def test_a_function_that_errs_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: object) -> None:
        right(*arguments)
        out = arguments[5]
        assert isinstance(out, int)
        (ctypes.c_float * 4).from_address(out)[3] += 1e-3

    function = load_ragged()
    assert function is not None
    right = function.attend
    assert ragged._is_right(function)
    monkeypatch.setattr(function, "attend", wrong)
    assert not ragged._is_right(function)


@pytest.mark.parametrize(
    ("heads", "served"), [((4, 2, 12), False), ((25, 1, 8), False), ((24, 1, 8), True)], ids=str
)
def test_heads_that_it_has_no_way_for_are_padded(heads: tuple[int, int, int], served: bool) -> None:
    costs = measure_attention(shape_of(*heads), torch.float32)
    assert (costs.ragged is not None) is served


def test_other_dtypes_are_padded() -> None:
    assert measure_attention(TINY, torch.bfloat16).ragged is None


def test_what_is_remembered_is_not_run_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    recalled = tuning.tune([], TINY, torch.zeros(1), None)
    assert recalled.costs is not None
    assert recalled.costs.ragged is not None
    monkeypatch.setattr(tuning, "load_ragged", lambda: None)
    found = tuning.tune([], TINY, torch.zeros(1), None).costs
    assert found is not None
    assert found.ragged is None


def test_rows_of_a_task_are_those_of_the_source() -> None:
    function = load_ragged()
    assert isinstance(function, RaggedFunction)
    assert f"#define MOST_ROWS {function.rows} " in ragged.SOURCE.read_text(encoding="utf-8")

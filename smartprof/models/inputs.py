"""From tokens, slots and who sees whom to the tensors of one forward pass.

Knows nothing about trees, policies or what the tokens mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smartprof.models.attention import AttentionPlan, GroupedAttention, PaddedAttention
from smartprof.models.cache import KVCache
from smartprof.models.grouping import AttentionCosts, Groups, group_requests
from smartprof.models.ragged import RaggedAttention, Sight, load_ragged
from smartprof.models.transfer import send

HIDDEN = float("-inf")


@dataclass(frozen=True, eq=False)
class Tokens:
    """M tokens of one pass over R requests, sorted by request; slots ascend within a request.

    token, request, position, slot: int64 [M]; request counts from `first_row` of the cache; slot is
    within the request's region.
    counts: int64 [R], tokens per request; 0 for one that takes no part.
    before: int64 [R]; each token sees its request's slots 0 ... before - 1.
    inside: bool [R, width, span], width = largest count: which of the slots ``before + 0 ...`` each
    token sees, itself included. What lies beyond a request's count is ignored.
    inside_position: int64 [R, span]: positions of the tokens in those slots.
    """

    token: NDArray[np.int64]
    request: NDArray[np.int64]
    position: NDArray[np.int64]
    slot: NDArray[np.int64]
    counts: NDArray[np.int64]
    before: NDArray[np.int64]
    inside: NDArray[np.bool_]
    inside_position: NDArray[np.int64]
    first_row: int = 0

    @cached_property
    def offset(self) -> NDArray[np.int64]:
        """int64 [R]: packed index of each request's first token."""
        return self.counts.cumsum() - self.counts

    @cached_property
    def place(self) -> NDArray[np.int64]:
        """int64 [M]: index of each token within its request."""
        return np.arange(len(self.token)) - self.offset[self.request]

    @cached_property
    def extent(self) -> NDArray[np.int64]:
        """int64 [R]: slots that a request's tokens see at most; 1 for one without tokens."""
        last = np.maximum(self.offset + self.counts - 1, 0)
        return np.where(self.counts > 0, self.slot[last] + 1, 1)

    def first_entry(self, columns: int) -> NDArray[np.int64]:
        """int64 [R]: where each request's slot 0 lies in a cache with so many columns."""
        return (self.first_row + np.arange(len(self.counts))) * columns

    def entries(self, columns: int) -> NDArray[np.int64]:
        """int64 [M]: flat entries of a cache with so many columns."""
        return self.first_entry(columns)[self.request] + self.slot


@dataclass(frozen=True, eq=False)
class Places:
    """Where attention finds each request's tokens: groups of requests, padded within each.

    groups: int64 arrays, requests of each call. base: int64 [R], a request's first place.
    width: int64 [R], its places. stops: where each group's places end.
    """

    groups: Groups
    base: NDArray[np.int64]
    width: NDArray[np.int64]
    stops: list[int]

    @classmethod
    def of(cls, groups: Groups, counts: NDArray[np.int64]) -> Places:
        """Every request of a group gets as many places as its widest has tokens."""
        base, width = np.zeros_like(counts), np.zeros_like(counts)
        stops, start = [], 0
        for members in groups:
            widest = int(counts[members].max())
            base[members] = start + widest * np.arange(len(members))
            width[members] = widest
            start += widest * len(members)
            stops.append(start)
        return cls(groups, base, width, stops)

    @classmethod
    def even(cls, requests: int, width: int) -> Places:
        """One call in which every request has `width` places."""
        every = np.arange(requests)
        return cls([every], width * every, np.full(requests, width), [requests * width])

    def scatter(self, tokens: Tokens) -> NDArray[np.int64]:
        """int64 [M]: place of each token."""
        return self.base[tokens.request] + tokens.place

    def gather(self, tokens: Tokens) -> NDArray[np.int64]:
        """int64 [places]: a packed index for each place, its own token's if it has one."""
        order = np.concatenate(self.groups)
        index = np.repeat(
            np.minimum(tokens.offset, len(tokens.token) - 1)[order], self.width[order]
        )
        index[self.scatter(tokens)] = np.arange(len(tokens.token))
        return index


@dataclass(frozen=True)
class PackedInput:
    """The tokens of one pass: ids, positions and flat cache entries, each int64 [M].

    first_entry: where entries are first_entry, first_entry + 1, ...; None: they may be anything.
    """

    tokens: Tensor
    positions: Tensor
    entries: Tensor
    attention: AttentionPlan
    first_entry: int | None = None


@dataclass(frozen=True)
class InputLayout:
    """How a model wants its passes laid out.

    group: query heads that share a key-value head. window: tokens that a position looks back over,
    itself included; None: all. costs: by which requests are grouped; None: all in one call.
    """

    group: int
    window: int | None = None
    costs: AttentionCosts | None = None


def chain_tokens(token: NDArray[np.int64], row: int, start: int) -> Tokens:
    """A run of one request's own tokens from slot `start` on, each seeing all before it."""
    count = len(token)
    slot = np.arange(start, start + count)
    return Tokens(
        token=token,
        request=np.zeros(count, np.int64),
        position=slot,
        slot=slot,
        counts=np.array([count]),
        before=np.array([start]),
        inside=np.tri(count, dtype=np.bool_)[None],
        inside_position=slot[None],
        first_row=row,
    )


def packed_input(cache: KVCache, tokens: Tokens, layout: InputLayout, pad_to: int) -> PackedInput:
    """One packed pass of `pad_to` tokens, at least as many as there are.

    Padding tokens write to the scratch column and are never read.
    """
    spare = pad_to - len(tokens.token)
    entries = tokens.entries(cache.columns)
    run = not spare and bool((np.diff(entries) == 1).all())
    first = int(entries[0]) if run else None
    arrays = [
        _padded(tokens.token, spare, 0),
        _padded(tokens.position, spare, 0),
        _padded(entries, spare, cache.columns - 1),
    ]
    groups = group_requests(tokens.counts, tokens.extent, layout.costs)
    costs = layout.costs
    if costs is not None and costs.prefer_ragged(groups, tokens.counts, tokens.extent):
        ids, positions, slots = send(arrays, cache.device)
        ragged = _ragged_plan(cache, tokens, layout, spare)
        return PackedInput(ids, positions, slots, ragged, first)
    alone = len(tokens.counts) == 1  # padding tokens are further tokens of the only request
    places = Places.of(groups, tokens.counts + spare if alone else tokens.counts)
    maps = [] if alone else _maps(tokens, places, spare)
    ids, positions, slots, *maps_sent = send(arrays + maps, cache.device)
    visible = _visible(tokens, layout.window, int(tokens.extent.max()))
    if alone and spare:
        visible = np.concatenate([visible, np.ones_like(visible[:, :1]).repeat(spare, 1)], axis=1)
    plan = _plan(cache, tokens, visible, layout.group, places, maps_sent)
    return PackedInput(ids, positions, slots, plan, first)


def _maps(tokens: Tokens, places: Places, spare: int) -> list[NDArray[np.int64]]:
    """Gather and scatter of an attention plan; none for one call with every token in its place."""
    scatter = places.scatter(tokens)
    one = len(places.groups) == 1
    if one and not spare and np.array_equal(scatter, np.arange(places.stops[-1])):
        return []
    return [places.gather(tokens), _padded(scatter, spare, 0)]


def _plan(
    cache: KVCache,
    tokens: Tokens,
    visible: NDArray[np.bool_],
    group: int,
    places: Places,
    maps: Sequence[Tensor],
) -> AttentionPlan:
    """visible: bool [R, width, kv_len]."""
    added = None if visible.all() else _additive(visible, cache)
    parts = []
    for members in places.groups:
        start, stop = int(members[0]), int(members[-1]) + 1
        step = int(members[1]) - start if len(members) > 1 else 1
        width, kv_len = int(places.width[start]), int(tokens.extent[members].max())
        seen = (slice(start, stop, step), slice(width), slice(kv_len))
        mask = None if added is None or visible[seen].all() else folded_mask(added[seen], group)
        rows = slice(tokens.first_row + start, tokens.first_row + stop, step)
        parts.append(PaddedAttention(rows, kv_len, width, mask))
    if len(parts) == 1:
        return replace(parts[0], gather=maps[0], scatter=maps[1]) if maps else parts[0]
    size = cache.data.shape[-1]
    buffer = cache.data.new_empty(places.stops[-1], cache.kv_heads * group, size)
    folded = [
        part.folded(buffer[start:stop], cache.kv_heads)
        for part, start, stop in zip(parts, (0, *places.stops), places.stops, strict=False)
    ]
    return GroupedAttention(parts, buffer, folded, *maps)


def _ragged_plan(
    cache: KVCache, tokens: Tokens, layout: InputLayout, spare: int
) -> RaggedAttention:
    """Padding tokens are those of one more request; they see the first slot of the cache."""
    function = load_ragged()
    assert function is not None
    request, before, inside = tokens.request, tokens.before, tokens.inside
    oldest = np.zeros(len(request), np.int64)
    if layout.window is not None:
        oldest = np.maximum(tokens.position - layout.window + 1, 0)
        limit = np.zeros((*inside.shape[:2], 1), np.int64)
        limit[request, tokens.place, 0] = oldest
        inside = inside & (tokens.inside_position[:, None] >= limit)
    unseen = inside[request, tokens.place, ::-1].argmax(axis=1)  # at the end; each sees itself
    sight = Sight(
        counts=np.append(tokens.counts, spare),
        entry=np.append(tokens.first_entry(cache.columns), 0),
        before=np.append(before, 1),
        oldest=_padded(oldest, spare, 0),
        inside=np.concatenate([inside, np.zeros_like(inside[:1])]),
        extent=_padded(before[request] + inside.shape[2] - unseen, spare, 1),
    )
    return RaggedAttention(function, sight, cache, layout.group)


def _visible(tokens: Tokens, window: int | None, kv_len: int) -> NDArray[np.bool_]:
    """bool [R, width, kv_len]: who sees which slot. No row is empty."""
    width = int(tokens.counts.max())
    slots = np.arange(kv_len)
    visible = np.repeat((slots < tokens.before[:, None])[:, None], width, axis=1)
    span = tokens.inside.shape[2]
    if window is not None:  # committed tokens lie at their own position, those inside may not
        oldest = np.zeros((len(tokens.counts), width, 1), np.int64)
        oldest[tokens.request, tokens.place, 0] = tokens.position - window + 1
        visible &= slots >= oldest
    for request, start in enumerate(tokens.before.tolist()):
        part = visible[request, :, start : start + span]
        length = part.shape[1]
        part[:] = tokens.inside[request, :, :length]
        if window is not None:
            part &= tokens.inside_position[request, :length] >= oldest[request]
    visible[:, :, 0] |= ~visible.any(axis=2)
    return visible


def _additive(visible: NDArray[np.bool_], cache: KVCache) -> Tensor:
    """Boolean [R, width, kv_len] to what is added to scores."""
    hidden = torch.from_numpy(~visible).to(cache.device)
    added = torch.zeros(hidden.shape, dtype=cache.data.dtype, device=hidden.device)
    return added.masked_fill_(hidden, HIDDEN)


def folded_mask(added: Tensor, group: int) -> Tensor:
    """Additive mask [R, width, kv_len] to [R, 1, width * group, kv_len]."""
    rows, width, kv_len = added.shape
    grouped = added.unsqueeze(2).expand(-1, -1, group, -1)
    return grouped.reshape(rows, 1, width * group, kv_len)


def _padded(values: NDArray[np.int64], spare: int, fill: int) -> NDArray[np.int64]:
    return np.concatenate([values, np.full(spare, fill, np.int64)]) if spare else values

"""From tokens, slots and who sees whom to the tensors of one forward pass.

Knows nothing about trees, policies or what the tokens mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smartprof.models.attention import (
    AttentionCosts,
    AttentionPlan,
    PaddedAttention,
    RaggedAttention,
    Span,
)
from smartprof.models.cache import KVCache
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

    def entries(self, columns: int) -> NDArray[np.int64]:
        """int64 [M]: flat entries of a cache with so many columns."""
        return (self.first_row + self.request) * columns + self.slot

    def padded_place(self, width: int) -> NDArray[np.int64]:
        """int64 [M]: place of each token where every request has `width` places."""
        return self.request * width + self.place

    def gather(self, width: int) -> NDArray[np.int64]:
        """int64 [R * width]: a packed index for each such place, its own token's if it has one."""
        index = np.repeat(np.minimum(self.offset, len(self.token) - 1), width)
        index[self.padded_place(width)] = np.arange(len(self.token))
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
    itself included; None: all. costs: when attention per request pays; None: never.
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
    arrays = [
        _padded(tokens.token, spare, 0),
        _padded(tokens.position, spare, 0),
        _padded(entries, spare, cache.columns - 1),
    ]
    ragged = _ragged_pays(tokens, layout)
    maps = [] if ragged else _maps(tokens, spare)
    ids, positions, places, *maps_sent = send(arrays + maps, cache.device)
    visible = _visible(tokens, layout.window, int(tokens.extent.max()))
    plan: AttentionPlan
    if ragged:
        plan = _ragged(cache, tokens, visible, layout.group, spare)
    else:
        plan = _padded_plan(cache, tokens, visible, layout.group, maps_sent)
    return PackedInput(ids, positions, places, plan, int(entries[0]) if run else None)


def _ragged_pays(tokens: Tokens, layout: InputLayout) -> bool:
    """Whether attention runs per request; a single request always does."""
    extent = tokens.extent
    requests = len(extent)
    if requests == 1 or layout.costs is None:
        return requests == 1
    padded = requests * int(tokens.counts.max()) * int(extent.max())
    return layout.costs.ragged_pays(padded, int((tokens.counts * extent).sum()), requests)


def _maps(tokens: Tokens, spare: int) -> list[NDArray[np.int64]]:
    """`PaddedAttention`'s gather and scatter; none if nothing is padded."""
    width = int(tokens.counts.max())
    if len(tokens.counts) * width == len(tokens.token) and not spare:
        return []
    return [tokens.gather(width), _padded(tokens.padded_place(width), spare, 0)]


def _padded_plan(
    cache: KVCache,
    tokens: Tokens,
    visible: NDArray[np.bool_],
    group: int,
    maps: Sequence[Tensor],
) -> PaddedAttention:
    requests, width, kv_len = visible.shape
    rows = slice(tokens.first_row, tokens.first_row + requests)
    everything = width == 1 and bool((tokens.extent == kv_len).all()) and bool(visible.all())
    mask = None if everything else _additive(visible, group, cache).unsqueeze(1)
    return PaddedAttention(rows, kv_len, width, mask, *maps)


def _ragged(
    cache: KVCache, tokens: Tokens, visible: NDArray[np.bool_], group: int, spare: int
) -> RaggedAttention:
    """A span per request that takes part; padding tokens join the last one."""
    spans = []
    taking_part = np.flatnonzero(tokens.counts)
    offset, extent = tokens.offset, tokens.extent
    for request in taking_part.tolist():
        count, length = int(tokens.counts[request]), int(extent[request])
        extra = spare if request == taking_part[-1] else 0
        seen = visible[request, :count, :length]
        mask = None
        if not seen.all():
            rows = np.concatenate([seen, np.ones((extra, length), np.bool_)]) if extra else seen
            mask = _additive(rows[None], group, cache)[0]
        start = int(offset[request])
        spans.append(Span(tokens.first_row + request, start, start + count + extra, length, mask))
    return RaggedAttention(spans)


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


def _additive(visible: NDArray[np.bool_], group: int, cache: KVCache) -> Tensor:
    """Boolean [R, width, kv_len] to additive [R, width * group, kv_len]."""
    mask = torch.from_numpy(visible).to(cache.device).repeat_interleave(group, dim=1)
    added = torch.zeros(mask.shape, dtype=cache.data.dtype, device=mask.device)
    return added.masked_fill_(~mask, HIDDEN)


def _padded(values: NDArray[np.int64], spare: int, fill: int) -> NDArray[np.int64]:
    return np.concatenate([values, np.full(spare, fill, np.int64)]) if spare else values

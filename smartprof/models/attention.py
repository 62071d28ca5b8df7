"""Who sees what in one pass, and the masked grouped-query attention that follows from it.

`PaddedAttention` runs requests in one call, padded to the largest; `GroupedAttention` makes several
such calls over groups of similar requests, as `grouping` finds cheapest. The query heads of one
key-value head are folded into the query axis instead of repeating keys and values.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from smartprof.models.cache import KVCache
from smartprof.models.grouping import AttentionCosts, CallCosts

REPEATS = 15  # timings of a probe
PROBE_BYTES = 2**25  # of keys that a probe goes through, more than stays in a core's own cache
LONG, WIDE = 512, 16  # slots and tokens of the larger probes


class AttentionPlan(Protocol):
    """Attention of one pass, prepared once and run in every layer."""

    def __call__(self, query: Tensor, cache: KVCache, layer: int) -> Tensor:
        """query [M, heads, head_dim] to [M, heads, head_dim]."""


@dataclass(frozen=True)
class PaddedAttention:
    """All requests in one call.

    rows: the requests of this pass, as a slice of the cache's batch (R of them).
    kv_len: cache slots that any of them sees.
    width: padded tokens per request.
    mask: float [R, 1, width * group, kv_len] added to the scores, or None if all see everything.
    gather: int64 [R * width], packed index of each padded place, or None if nothing is padded.
    scatter: int64 [M], padded place of each packed token, or None if nothing is padded.
    """

    rows: slice
    kv_len: int
    width: int
    mask: Tensor | None
    gather: Tensor | None = None
    scatter: Tensor | None = None

    def __call__(self, query: Tensor, cache: KVCache, layer: int) -> Tensor:
        """query [M, heads, head_dim] to [M, heads, head_dim]."""
        keys, values = cache.view(layer, self.rows, self.kv_len)
        requests, kv_heads, _, size = keys.shape
        group = query.shape[1] // kv_heads
        padded = query if self.gather is None else query[self.gather]
        padded = padded.view(requests, self.width, kv_heads, group, size)
        folded = padded.transpose(1, 2).reshape(requests, kv_heads, self.width * group, size)
        out = F.scaled_dot_product_attention(folded, keys, values, attn_mask=self.mask)
        out = out.view(requests, kv_heads, self.width, group, size).transpose(1, 2)
        out = out.reshape(requests * self.width, kv_heads * group, size)
        return out if self.scatter is None else out[self.scatter]


@dataclass(frozen=True)
class GroupedAttention:
    """A call per group of requests, each padded to the largest of its group.

    parts: of every group; stops: where its padded places end, each beginning where the last ended.
    gather, scatter: as of `PaddedAttention`, over the places of all groups.
    """

    parts: Sequence[PaddedAttention]
    stops: Sequence[int]
    gather: Tensor | None
    scatter: Tensor | None

    def __call__(self, query: Tensor, cache: KVCache, layer: int) -> Tensor:
        """query [M, heads, head_dim] to [M, heads, head_dim]."""
        padded = query if self.gather is None else query[self.gather]
        out = torch.cat(
            [
                part(padded[start:stop], cache, layer)
                for part, start, stop in zip(self.parts, (0, *self.stops), self.stops, strict=False)
            ]
        )
        return out if self.scatter is None else out[self.scatter]


def measure_attention(
    heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype
) -> AttentionCosts:
    """Time calls on the CPU over keys that are not in its cache, as in a layer of a whole pass."""
    group = heads // kv_heads
    keys = torch.zeros(PROBE_BYTES // (dtype.itemsize * kv_heads * head_dim), kv_heads, head_dim)
    slots = keys.to(dtype).transpose(0, 1)  # [kv_heads, slots, head_dim]

    def probe(requests: int, width: int, length: int) -> float:
        query = torch.randn(requests, kv_heads, width * group, head_dim).to(dtype)
        mask = torch.zeros(requests, 1, width * group, length, dtype=dtype)
        step = requests * length
        starts = itertools.cycle(range(0, slots.shape[1] - step, step))

        def run() -> None:
            start = next(starts)
            view = slots[:, start : start + step].unflatten(1, (requests, length)).transpose(0, 1)
            F.scaled_dot_product_attention(query, view, view, attn_mask=mask)

        return _median_seconds(run)

    def costs(requests: int) -> CallCosts:
        call = probe(requests, 1, 16)
        narrow, wide = probe(requests, 1, LONG), probe(requests, WIDE, LONG)
        slot = max(narrow - call, 0.0) / (requests * (LONG - 16))
        pair = max(wide - narrow, 0.0) / (requests * LONG * (WIDE - 1))
        return CallCosts(call, max(slot - pair, 0.0), pair)

    return AttentionCosts(costs(1), costs(2))


def _median_seconds(run: Callable[[], object]) -> float:
    samples = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)

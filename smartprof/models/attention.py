"""Who sees what in one pass, and the masked grouped-query attention that follows from it.

Two plans for the same result. `PaddedAttention` runs all requests in one call, padded to the
largest; `RaggedAttention` runs a call per request over exactly its own tokens and keys. The first
wastes arithmetic on uneven trees, the second costs a call each: `AttentionCosts` says which is
less. The query heads of one key-value head are folded into the query axis instead of repeating keys
and values.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from smartprof.models.cache import KVCache

REPEATS = 15  # timings of a probe


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


class Span(NamedTuple):
    """One request's part: its row, its packed tokens start ... stop - 1, the cache slots it sees.

    mask: float [(stop - start) * group, extent] added to the scores, or None: all see everything.
    """

    row: int
    start: int
    stop: int
    extent: int
    mask: Tensor | None


@dataclass(frozen=True)
class RaggedAttention:
    """A call per request; together the spans cover all packed tokens in order."""

    spans: Sequence[Span]

    def __call__(self, query: Tensor, cache: KVCache, layer: int) -> Tensor:
        """query [M, heads, head_dim] to [M, heads, head_dim]."""
        tokens, heads, size = query.shape
        kv_heads = cache.kv_heads
        group = heads // kv_heads
        # [1, kv_heads, M * group, head_dim], so that one request's queries are a slice
        if tokens == 1:
            folded = query.view(1, kv_heads, group, size)
        else:
            folded = query.view(1, tokens, kv_heads, group, size).transpose(1, 2)
            folded = folded.reshape(1, kv_heads, tokens * group, size)
        parts = []
        for row, start, stop, extent, mask in self.spans:
            keys, values = cache.row_view(layer, row, extent)  # [1, kv_heads, extent, head_dim]
            part = folded if len(self.spans) == 1 else folded[:, :, start * group : stop * group]
            parts.append(F.scaled_dot_product_attention(part, keys, values, attn_mask=mask))
        out = parts[0] if len(parts) == 1 else torch.cat(parts, 2)  # [1, kv_heads, M * group, size]
        if tokens == 1:
            return out.view(1, heads, size)
        out = out.view(kv_heads, tokens, group, size).transpose(0, 1)
        return out.reshape(tokens, heads, size)


@dataclass(frozen=True)
class AttentionCosts:
    """What one more call costs, and one more pair of token and key; measured, never guessed."""

    call_seconds: float
    pair_seconds: float

    def ragged_pays(self, padded_pairs: int, own_pairs: int, requests: int) -> bool:
        """Whether calls per request are cheaper than one padded call.

        padded_pairs, own_pairs: tokens times keys, of the padded call and of all requests' own.
        """
        saved = (padded_pairs - own_pairs) * self.pair_seconds
        return saved > (requests - 1) * self.call_seconds


def measure_attention(
    heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype
) -> AttentionCosts:
    """Time a small and a large call on the CPU, as they run in one layer."""
    group = heads // kv_heads

    def probe(tokens: int, length: int) -> float:
        query = torch.randn(1, kv_heads, tokens * group, head_dim).to(dtype)
        keys = torch.randn(1, kv_heads, length, head_dim).to(dtype)
        mask = torch.zeros(tokens * group, length, dtype=dtype)
        return _median_seconds(
            lambda: F.scaled_dot_product_attention(query, keys, keys, attn_mask=mask)
        )

    call, large = probe(1, 16), probe(16, 512)
    return AttentionCosts(call, max(large - call, 0.0) / (16 * 512))


def _median_seconds(run: Callable[[], object]) -> float:
    samples = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)

"""Who sees what in one pass, and the masked grouped-query attention that follows from it.

`PaddedAttention` runs requests in one call, padded to the largest; `GroupedAttention` makes several
such calls over groups of similar requests, as `grouping` finds cheapest; `ragged` has the way that
pads nothing, for CPUs with a compiler. The query heads of one key-value head are folded into the
query axis instead of repeating keys and values. Query heads come in the order of
`interleave_heads`, in which folding and unfolding are views: no copy is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from smartprof.models.cache import KVCache


class AttentionPlan(Protocol):
    """Attention of one pass, prepared once and run in every layer."""

    def __call__(self, query: Tensor, cache: KVCache, layer: int) -> Tensor:
        """query [M, heads, head_dim] to [M, heads, head_dim], interleaved heads."""


def interleave_heads(x: Tensor, kv_heads: int, head_dim: int, dim: int = 0) -> Tensor:
    """Reorder an axis of heads * head_dim so that head i reads key-value head ``i % kv_heads``.

    In checkpoints head i reads key-value head ``i // group``.
    """
    grouped = x.unflatten(dim, (kv_heads, -1, head_dim))
    return grouped.transpose(dim, dim + 1).flatten(dim, dim + 2)


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
        """query [M, heads, head_dim] to [M, heads, head_dim], interleaved heads."""
        padded = query if self.gather is None else query.index_select(0, self.gather)
        out = self.attend(self.folded(padded, cache.kv_heads), cache, layer)
        out = out.view(len(padded), *query.shape[1:])
        return out if self.scatter is None else out.index_select(0, self.scatter)

    def folded(self, padded: Tensor, kv_heads: int) -> Tensor:
        """padded [R * width, heads, head_dim] as [R, kv_heads, width * group, head_dim].

        A view where the places' heads lie behind each other, or with one place per request.
        """
        places, heads, size = padded.shape
        rows = self.width * (heads // kv_heads)
        return padded.reshape(places // self.width, rows, kv_heads, size).transpose(1, 2)

    def attend(self, folded: Tensor, cache: KVCache, layer: int) -> Tensor:
        """What `folded` makes of the padded places, attended: [R * width * heads, head_dim]."""
        keys, values = cache.view(layer, self.rows, self.kv_len)
        out = F.scaled_dot_product_attention(folded, keys, values, attn_mask=self.mask)
        return out.transpose(1, 2).reshape(-1, folded.shape[3])  # a view of what kernels return


@dataclass(frozen=True)
class GroupedAttention:
    """A call per group of requests, each padded to the largest of its group.

    parts: of every group. places: [places, heads, head_dim], a buffer for the queries of all
    groups, one behind the other. folded: the view of it that each part takes, the same in every
    layer. gather, scatter: as of `PaddedAttention`, over the places of all groups.
    """

    parts: Sequence[PaddedAttention]
    places: Tensor
    folded: Sequence[Tensor]
    gather: Tensor
    scatter: Tensor

    def __call__(self, query: Tensor, cache: KVCache, layer: int) -> Tensor:
        """query [M, heads, head_dim] to [M, heads, head_dim], interleaved heads."""
        torch.index_select(query, 0, self.gather, out=self.places)
        out = [x.attend(y, cache, layer) for x, y in zip(self.parts, self.folded, strict=True)]
        return torch.cat(out).view_as(self.places).index_select(0, self.scatter)

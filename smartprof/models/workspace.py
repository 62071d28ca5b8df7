"""Where the layers of a pass put what no other pass needs, and the views that they take of it.

A pass of a few tokens spends as much time on making tensors and views as on its arithmetic beside
the matrix products; buffers that all layers share need both only once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from smartprof.models.rotary import as_pairs
from smartprof.models.shapes import ModelShape


@dataclass(frozen=True, eq=False)
class Heads:
    """Queries, keys and values of M tokens, joined [M, all heads * head_dim], and views of it.

    turned: queries and keys [M, heads + kv_heads, head_dim]. pairs: the same as `rotate_` takes it.
    keys_values: [2 * kv_heads, M, head_dim]. query: [M, heads, head_dim].
    """

    joined: Tensor
    turned: Tensor
    pairs: Tensor
    keys_values: Tensor
    query: Tensor


@dataclass(frozen=True, eq=False)
class Gates:
    """Both halves of a gated MLP's first product, joined [M, 2 * intermediate], and views of it."""

    joined: Tensor
    gate: Tensor
    up: Tensor


@dataclass(frozen=True, eq=False)
class Workspace:
    """Buffers of one pass of M tokens; None: make a tensor instead.

    Every layer overwrites them, so nothing that outlives a layer may lie here.
    length: [M, 1]. normed: [M, hidden].
    """

    length: Tensor | None = None
    normed: Tensor | None = None
    heads: Heads | None = None
    gates: Gates | None = None


NO_WORKSPACE = Workspace()


def split_heads(joined: Tensor, shape: ModelShape) -> Heads:
    """The views of joined [M, all heads * head_dim]."""
    heads, kv_heads, size = shape.heads, shape.kv_heads, shape.head_dim
    tokens, width = joined.shape
    # Each view in one operation: between two products none of torch's code is left in a cache.
    turned = joined.as_strided((tokens, heads + kv_heads, size), (width, size, 1))
    return Heads(
        joined=joined,
        turned=turned,
        pairs=as_pairs(turned),
        keys_values=joined.as_strided((2 * kv_heads, tokens, size), (size, width, 1), heads * size),
        query=joined.as_strided((tokens, heads, size), (width, size, 1)),
    )


def split_gates(joined: Tensor) -> Gates:
    """The views of joined [M, 2 * intermediate]."""
    return Gates(joined, *joined.chunk(2, dim=-1))


@torch.inference_mode(False)  # so that passes within and without that mode can write to it
def make_workspace(shape: ModelShape, tokens: int) -> Workspace:
    """Float32 buffers of a CPU for passes of so many tokens."""
    width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    return Workspace(
        length=torch.empty(tokens, 1),
        normed=torch.empty(tokens, shape.hidden),
        heads=split_heads(torch.empty(tokens, width), shape),
        gates=split_gates(torch.empty(tokens, 2 * shape.intermediate)),
    )

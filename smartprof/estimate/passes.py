"""Seconds of one pass over a transformer, from its shape and a machine: bytes, operations, tiles.

The formulas stand in docs/estimate.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from smartprof.estimate.machine import Machine
from smartprof.models.shapes import ModelShape

LAYER_KERNELS = 10  # two norms, qkv, rotation, cache, attention, out, gate and up, SwiGLU, down
HEAD_KERNELS = 3  # embedding, last norm, logits
# Values of a token, in widths of the residual stream and of the MLP, that the small operations of a
# layer read and write beside the products.
STREAM_PASSES, MLP_PASSES = 12, 3


@dataclass(frozen=True)
class Product:
    """A weight matrix [columns, depth] that every token's row is multiplied with."""

    columns: int
    depth: int

    @property
    def elements(self) -> int:
        """Of the matrix."""
        return self.columns * self.depth


def layer_products(shape: ModelShape, inputs: int | None = None) -> tuple[Product, ...]:
    """The products of one layer. inputs: width of what attention reads, default the hidden size."""
    queries = shape.heads * shape.head_dim
    keys = shape.kv_heads * shape.head_dim
    return (
        Product(queries + 2 * keys, inputs or shape.hidden),
        Product(shape.hidden, queries),
        Product(2 * shape.intermediate, shape.hidden),
        Product(shape.hidden, shape.intermediate),
    )


def product_seconds(machine: Machine, product: Product, tokens: int) -> float:
    """One product over `tokens` rows: the slower of its bytes and its tiles, or their sum."""
    rows = tokens * (product.columns + product.depth)
    reading = machine.element_bytes * (product.elements + rows) / machine.bandwidth
    computing = tile_seconds(machine, product, tokens)
    return max(reading, computing) if machine.overlap else reading + computing


def tile_seconds(machine: Machine, product: Product, tokens: int) -> float:
    """Waves of tiles: every unit computes one at a time, and the last wave is rarely full.

    The best of the tile heights and of the cuts of the depth, as libraries choose them.
    """
    best = math.inf
    for height in machine.tile_tokens:
        tiles = -(-tokens // height) * -(-product.columns // machine.tile_columns)
        operations = 2.0 * height * machine.tile_columns * product.depth
        tile = operations / (machine.flops / machine.units)
        for split in machine.splits:
            waves = -(-tiles * split // machine.units)
            best = min(best, waves * tile / split)
    return best


def attention_seconds(
    machine: Machine, shape: ModelShape, batch: int, tokens: int, context: float
) -> float:
    """One layer's attention: keys and values are read once per request, or the scores computed."""
    cached = batch * context + tokens
    reading = 2 * machine.element_bytes * shape.kv_heads * shape.head_dim * cached
    operations = 4.0 * shape.heads * shape.head_dim * tokens * (context + tokens / batch)
    parts = (reading / machine.kv_bandwidth, operations / machine.flops)
    slower = max(parts) if machine.overlap else sum(parts)
    return max(slower, machine.attention_seconds)


def layer_seconds(
    machine: Machine,
    shape: ModelShape,
    batch: int,
    tokens: int,
    context: float,
    inputs: int | None = None,
) -> float:
    """One layer over `tokens` rows of `batch` requests of `context` tokens each."""
    products = sum(product_seconds(machine, x, tokens) for x in layer_products(shape, inputs))
    values = tokens * (STREAM_PASSES * shape.hidden + MLP_PASSES * shape.intermediate)
    return (
        products
        + attention_seconds(machine, shape, batch, tokens, context)
        + machine.element_bytes * values / machine.bandwidth
        + LAYER_KERNELS * machine.kernel_seconds
    )


def forward_seconds(
    machine: Machine, shape: ModelShape, batch: int, tokens: int, context: float, logits: int
) -> float:
    """A whole pass over `tokens` rows, with the logits of `logits` of them."""
    layers = shape.layers * layer_seconds(machine, shape, batch, tokens, context)
    head = product_seconds(machine, Product(shape.vocab, shape.hidden), logits)
    return layers + head + HEAD_KERNELS * machine.kernel_seconds


def read_elements(shape: ModelShape) -> int:
    """Weights that one pass reads: all matrices, of the embedding a few rows at most."""
    return shape.layers * shape.layer_matrix_elements + shape.vocab * shape.hidden

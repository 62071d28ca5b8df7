"""How much of a calibration fits in memory, by prediction. Knows sizes, not points or clocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smartprof.calibrate.contexts import longest_context
from smartprof.calibrate.tree_sizes import skewed_sizes
from smartprof.errors import InputError
from smartprof.models.shapes import ModelShape

MASK_BYTES = 9  # per padded query head and cache slot: a boolean, a float and a copy of each
FEWEST_BATCHES = 3  # kept, while a shorter context can give way instead


@dataclass(frozen=True)
class Fitting:
    """Batches and contexts of which every pair fits, and why others were left out."""

    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    skipped: tuple[str, ...]


def predicted_bytes(
    shape: ModelShape, batch: int, size: int, context: int, element_bytes: int
) -> int:
    """Memory of one verify pass beyond the weights: cache, logits, activations, masks.

    size: tokens of the pass. context: mean committed tokens of its requests.
    """
    width = int(skewed_sizes(batch, size).max())
    slots = longest_context(batch, context) + size
    cache = batch * slots * shape.kv_bytes_per_token(element_bytes)
    logits = size * shape.vocab * element_bytes
    activations = size * (4 * shape.hidden + 3 * shape.intermediate) * element_bytes
    group = shape.heads // shape.kv_heads
    masks = batch * width * group * slots * MASK_BYTES
    scores = masks * shape.kv_heads  # attention scores, if they are written out
    return cache + logits + activations + masks + scores


def fit_to_memory(
    batches: Sequence[int],
    contexts: Sequence[int],
    size: int,
    shape: ModelShape,
    memory_bytes: int,
    element_bytes: int,
) -> Fitting:
    """The largest full product of batches and contexts that fits: batches give way first.

    size: tokens of the largest pass of every batch. memory_bytes: free beside the weights.
    Raises InputError when not even the smallest batch at the shortest context fits.
    """
    for kept in range(len(contexts), 0, -1):
        longest = contexts[kept - 1]
        fits = tuple(
            x
            for x in batches
            if predicted_bytes(shape, x, size, longest, element_bytes) <= memory_bytes
        )
        if len(fits) >= min(FEWEST_BATCHES, len(batches)) or (kept == 1 and fits):
            left = [f"batch {x}: does not fit in memory" for x in batches if x not in fits]
            left += [f"context {x}: does not fit in memory" for x in contexts[kept:]]
            return Fitting(fits, tuple(contexts[:kept]), tuple(left))
    raise InputError(
        f"not even one request of {contexts[0]} tokens fits in {memory_bytes / 2**30:.1f} GiB "
        "beside the weights: choose a smaller target or a larger device"
    )

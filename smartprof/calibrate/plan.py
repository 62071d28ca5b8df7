"""Which points to measure, decided before anything runs. Knows sizes, not clocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from smartprof.errors import InputError
from smartprof.models.shapes import ModelShape

QUANTITIES = ("verify", "plain_decode", "round_overhead", "draft_step", "draft_catchup")
MASK_BYTES = 9  # per padded query head and cache slot: a boolean, a float and a copy of each


@dataclass(frozen=True, order=True)
class Point:
    """One shape to time. `size` is tokens, rows, accepted tokens or batch, by quantity.

    source: of draft quantities, which of the drafter's sources.
    """

    quantity: str
    batch: int
    size: int
    context: int
    source: str = ""


@dataclass(frozen=True)
class Mode:
    """How much a calibration measures.

    sizes: of the base curve (smallest batch, shortest context), in tokens.
    multiples: sizes of every other curve, in tokens per request, beside `top`, the largest size.
    contexts: the last one may be lowered to fit the memory.
    """

    name: str
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    sizes: tuple[int, ...]
    multiples: tuple[int, ...]
    held_out: int
    budget_seconds: float

    @property
    def top(self) -> int:
        """The largest verify pass."""
        return max(self.sizes)


BASE_SIZES = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
MODES = {
    "quick": Mode("quick", (1, 4, 16), (64, 1024), BASE_SIZES, (1, 2, 4, 8), 10, 80.0),
    "full": Mode("full", (1, 2, 4, 8, 16), (64, 512, 2048), BASE_SIZES, (1, 2, 4, 8), 40, 240.0),
}


@dataclass(frozen=True)
class Plan:
    """Points that enter the fit, points held out of it, and what was left out and why."""

    mode: Mode
    fitted: tuple[Point, ...]
    held_out: tuple[Point, ...]
    skipped: tuple[str, ...]

    @property
    def capacity(self) -> int:
        """Cache slots per request that the largest point needs."""
        points = self.fitted + self.held_out
        return max(x.context + (x.size if x.quantity == "verify" else 64) for x in points)

    @property
    def batch(self) -> int:
        """The largest batch."""
        return max(x.batch for x in self.fitted)


def make_plan(
    mode: str,
    shape: ModelShape,
    memory_bytes: int,
    element_bytes: int,
    max_context: int,
    sources: Sequence[str],
    capture_sizes: Sequence[int] = (),
) -> Plan:
    """The points of a calibration of this target and drafter within this much memory.

    memory_bytes: free memory after the weights are loaded. sources: of the drafter. Batches and
    contexts whose largest shape would not fit are left out by prediction and named in `skipped`.
    capture_sizes: token counts to which captured passes are padded; the base curve gets both sides
    of some of them.
    Raises InputError when not even the smallest shape fits.
    """
    chosen = _find_mode(mode)
    contexts = tuple(x for x in chosen.contexts if x + chosen.top <= max_context)
    skipped = [
        f"context {x}: the model ends at {max_context}"
        for x in chosen.contexts
        if x not in contexts
    ]
    if not contexts:
        raise InputError(
            f"the model ends at {max_context} tokens, a calibration needs "
            f"{chosen.contexts[0] + chosen.top}: choose another target"
        )
    batches, fitting = _fitting(chosen, contexts, shape, memory_bytes, element_bytes, skipped)
    fitted = [
        *_verify_points(chosen, batches, fitting, _edges(chosen, capture_sizes)),
        *_round_points(chosen, batches, fitting),
        *(x for source in sources for x in _draft_points(chosen, batches, fitting, source)),
    ]
    held_out = _held_out(chosen, batches, fitting, set(fitted))
    return Plan(chosen, tuple(fitted), held_out, tuple(skipped))


def predicted_bytes(shape: ModelShape, point: Point, element_bytes: int) -> int:
    """Memory of one verify pass beyond the weights: cache, logits, activations, masks."""
    width = -(-point.size // point.batch)
    slots = point.context + point.size
    cache = point.batch * slots * shape.kv_bytes_per_token(element_bytes)
    logits = point.size * shape.vocab * element_bytes
    activations = point.size * (4 * shape.hidden + 3 * shape.intermediate) * element_bytes
    group = shape.heads // shape.kv_heads
    masks = point.batch * width * group * slots * MASK_BYTES
    scores = masks * shape.kv_heads  # attention scores, if they are written out
    return cache + logits + activations + masks + scores


def _find_mode(name: str) -> Mode:
    if name not in MODES:
        raise InputError(f"expected --mode {' or '.join(MODES)}, got {name!r}")
    return MODES[name]


def _fitting(
    mode: Mode,
    contexts: tuple[int, ...],
    shape: ModelShape,
    memory_bytes: int,
    element_bytes: int,
    skipped: list[str],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The largest full product of batches and contexts that fits: batches give way first."""
    for kept in range(len(contexts), 0, -1):
        longest = contexts[kept - 1]
        fits = tuple(
            x
            for x in mode.batches
            if predicted_bytes(shape, Point("verify", x, mode.top, longest), element_bytes)
            <= memory_bytes
        )
        if len(fits) >= min(3, len(mode.batches)) or (kept == 1 and fits):
            skipped += [f"batch {x}: does not fit in memory" for x in mode.batches if x not in fits]
            skipped += [f"context {x}: does not fit in memory" for x in contexts[kept:]]
            return fits, contexts[:kept]
    raise InputError(
        f"not even one request of {mode.contexts[0]} tokens fits in {memory_bytes / 2**30:.1f} GiB "
        "beside the weights: choose a smaller target or a larger device"
    )


def _edges(mode: Mode, capture_sizes: Sequence[int]) -> set[int]:
    """Sizes just above those sizes of the mode that are captured: there the time jumps."""
    return {x + 1 for x in mode.sizes if x in capture_sizes and 4 <= x < mode.top}


def _verify_points(
    mode: Mode, batches: tuple[int, ...], contexts: tuple[int, ...], edges: set[int]
) -> list[Point]:
    points = []
    for batch in batches:
        for context in contexts:
            base = batch == batches[0] and context == contexts[0]
            wanted = {*mode.sizes} | edges if base else _sparse_sizes(mode, batch)
            sizes = {x for x in wanted if x >= batch}
            points += [Point("verify", batch, x, context) for x in sorted(sizes)]
    return points


def _sparse_sizes(mode: Mode, batch: int) -> set[int]:
    return {batch * x for x in mode.multiples if batch * x <= mode.top} | {64, mode.top}


def _round_points(mode: Mode, batches: tuple[int, ...], contexts: tuple[int, ...]) -> list[Point]:
    points = [Point("plain_decode", x, x, y) for x in batches for y in contexts]
    points += [
        Point("round_overhead", x, y, contexts[0])
        for x in batches
        for y in sorted({x, 64, mode.top})
    ]
    return points


def _draft_points(
    mode: Mode, batches: tuple[int, ...], contexts: tuple[int, ...], source: str
) -> list[Point]:
    points = [
        Point("draft_step", x, y, z, source)
        for x in batches
        for y in sorted({1, x, 4 * x, mode.top})
        for z in contexts
    ]
    points += [
        Point("draft_catchup", x, y, z, source)
        for x in batches
        for y in sorted({x, 4 * x, 16 * x})
        for z in contexts
    ]
    return points


def _held_out(
    mode: Mode, batches: tuple[int, ...], contexts: tuple[int, ...], fitted: set[Point]
) -> tuple[Point, ...]:
    """Quasi-random verify shapes, logarithmic in batch and tree size, none of them fitted."""
    sampler = qmc.Halton(d=3, seed=2604)
    points: dict[Point, None] = {}
    while len(points) < mode.held_out:
        for u, v, w in sampler.random(64):
            batch = round(batches[0] * (batches[-1] / batches[0]) ** u)
            size = round(batch * (mode.top / batch) ** v)
            context = round(contexts[0] + w * (contexts[-1] - contexts[0]))
            point = Point("verify", batch, int(np.clip(size, batch, mode.top)), context)
            if point not in fitted:
                points[point] = None
    return tuple(points)[: mode.held_out]

"""Which points to measure, decided before anything runs. Knows sizes, not clocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from smartprof.calibrate.contexts import GROWN, longest_context
from smartprof.calibrate.memory import fit_to_memory
from smartprof.errors import InputError
from smartprof.models.shapes import ModelShape

QUANTITIES = ("verify", "plain_decode", "round_overhead", "draft_step", "draft_catchup")
INNER_SIZE = 16  # at longer contexts, where the first tokens add more attention each than the next
LOOKUPS = ("ngram",)  # sources that search text: next to nothing, even where there is most of it
MOST_ACCEPTED = 8  # tokens per request of the largest batch that a catch-up is timed with


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

    batches, contexts: the last ones may be left out to fit the memory.
    every_batch: whether verify passes are timed at every batch; else at the first two and the last:
    from one request to two they jump, as padding and masks begin, and then grow next to straight.
    sizes: of the base curve (smallest batch, shortest context), in tokens, before it is refined.
    multiples: sizes of every other curve, in tokens per request, beside `top`, the largest size.
    inner, inner_long: sizes of curves of several requests, in tokens, at the shortest context and
    at longer ones. What batch and context add is no straight line in the tokens: the first ones
    widen the padding of attention most.
    shapes: the most that enter the fit; those that the plan leaves open go where they are needed.
    budget_seconds: of measuring; held_out_seconds of them are the held-out shapes' own.
    redraw: whether held-out shapes that fail bring further shapes and a fresh draw, once.
    """

    name: str
    batches: tuple[int, ...]
    every_batch: bool
    contexts: tuple[int, ...]
    sizes: tuple[int, ...]
    multiples: tuple[int, ...]
    inner: tuple[int, ...]
    inner_long: tuple[int, ...]
    shapes: int
    held_out: int
    budget_seconds: float
    held_out_seconds: float
    redraw: bool = False

    @property
    def top(self) -> int:
        """The largest verify pass."""
        return max(self.sizes)


BASE_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# Sizes at which tiles of matrix products are full, by kind of device; the highest steps first, for
# where not all have room. On CPUs those of `models/panels.c`: of 6 tokens; or one of 12, else of 8.
TILES = {"cpu": (12, 6, 16), "cuda": (64, 128)}
TILE = 16  # at multiples of it the time may jump as well
BATCHES = (1, 2, 4, 8, 16)
# The budget of full mode is what a busy CPU needs; a steady device is known long before. Dense mode
# leaves next to nothing between measured sizes: it is the truth that other profiles are judged by.
MODES = {
    "quick": Mode(
        name="quick",
        batches=BATCHES,
        every_batch=False,
        contexts=(64, 1024),
        sizes=BASE_SIZES,
        multiples=(1,),
        inner=(32,),
        inner_long=(64,),
        shapes=60,
        held_out=10,
        budget_seconds=76.0,
        held_out_seconds=15.0,
    ),
    "full": Mode(
        name="full",
        batches=BATCHES,
        every_batch=True,
        contexts=(64, 512, 2048),
        sizes=BASE_SIZES,
        multiples=(1, 4),
        inner=(32, 64),
        inner_long=(32, 64),
        shapes=150,
        held_out=40,
        budget_seconds=600.0,
        held_out_seconds=120.0,
        redraw=True,
    ),
    "dense": Mode(
        name="dense",
        batches=BATCHES,
        every_batch=True,
        contexts=(64, 1024),
        sizes=(*range(1, 65), 96, 128, 192, 256),
        multiples=tuple(range(1, 17)),
        inner=(),
        inner_long=(),
        shapes=300,
        held_out=10,
        budget_seconds=900.0,
        held_out_seconds=30.0,
    ),
}


@dataclass(frozen=True)
class Plan:
    """Points that enter the fit, points held out of it, and what was left out and why.

    fresh: held-out points for a second draw. boundaries: sizes t at which the time may jump to that
    of t + 1; where it does is found by measuring. context_work: see `pace.paces`.
    """

    mode: Mode
    fitted: tuple[Point, ...]
    held_out: tuple[Point, ...]
    skipped: tuple[str, ...]
    fresh: tuple[Point, ...] = ()
    boundaries: tuple[int, ...] = ()
    context_work: tuple[float, float] = (0.0, 0.0)

    @property
    def capacity(self) -> int:
        """Cache slots per request that the largest point needs."""
        return max(slots_needed(x) for x in self.fitted + self.held_out + self.fresh)

    @property
    def spare(self) -> int:
        """How many shapes may be added where curves are least known."""
        return max(0, self.mode.shapes - len(self.fitted))

    @property
    def batch(self) -> int:
        """The largest batch."""
        return max(x.batch for x in self.fitted)

    @property
    def base(self) -> tuple[int, int]:
        """Batch and context of the curve that is measured at the most sizes."""
        verify = [x for x in self.fitted if x.quantity == "verify"]
        return min((x.batch, x.context) for x in verify)

    @property
    def sentinel(self) -> Point:
        """The smallest pass, timed over and over: what slows memory shows in it most."""
        batch, context = self.base
        return Point("verify", batch, batch, context)


def slots_needed(point: Point) -> int:
    """Cache slots per request with which a point can be timed."""
    longest = longest_context(point.batch, point.context)
    return longest + (point.size + GROWN if point.quantity == "verify" else 64)


def make_plan(
    mode: str,
    shape: ModelShape,
    memory_bytes: int,
    element_bytes: int,
    max_context: int,
    sources: Sequence[str],
    capture_sizes: Sequence[int] = (),
    tiles: Sequence[int] = TILES["cpu"],
) -> Plan:
    """The points of a calibration of this target and drafter within this much memory.

    memory_bytes: free memory after the weights are loaded. sources: of the drafter. Batches and
    contexts whose largest shape would not fit are left out by prediction and named in `skipped`.
    capture_sizes: token counts to which captured passes are padded. The base curve gets both sides
    of some of them, the smallest if not all have room; without any, both sides of `tiles`.
    Raises InputError when not even the smallest shape fits.
    """
    chosen = find_mode(mode)
    needed = {
        x: longest_context(chosen.batches[-1], x) + chosen.top + GROWN for x in chosen.contexts
    }
    contexts = tuple(x for x in chosen.contexts if needed[x] <= max_context)
    skipped = [
        f"context {x}: the model ends at {max_context}"
        for x in chosen.contexts
        if x not in contexts
    ]
    if not contexts:
        raise InputError(
            f"the model ends at {max_context} tokens, a calibration needs "
            f"{needed[chosen.contexts[0]]}: choose another target"
        )
    fits = fit_to_memory(chosen.batches, contexts, chosen.top, shape, memory_bytes, element_bytes)
    batches, contexts = fits.batches, fits.contexts
    boundaries = _boundaries(chosen, capture_sizes)
    others = _round_points(chosen, batches, contexts)
    for source in sources:
        draft_points = _lookup_points if source in LOOKUPS else _draft_points
        others += draft_points(chosen, batches, contexts, source)
    room = chosen.shapes - len(others) - len(_verify_points(chosen, batches, contexts, ()))
    edges = _edges(chosen, capture_sizes, tiles)[: max(room, 0)]
    fitted = _verify_points(chosen, batches, contexts, edges) + others
    held_out, fresh = _held_out(chosen, batches, contexts, set(fitted))
    return Plan(
        mode=chosen,
        fitted=tuple(fitted),
        held_out=held_out,
        skipped=(*skipped, *fits.skipped),
        fresh=fresh,
        boundaries=boundaries,
        context_work=_context_work(shape, element_bytes),
    )


def find_mode(name: str) -> Mode:
    """A mode by its name. Raises InputError for one that nobody knows."""
    if name not in MODES:
        *others, last = MODES
        raise InputError(f"expected --mode {', '.join(others)} or {last}, got {name!r}")
    return MODES[name]


def _context_work(shape: ModelShape, element_bytes: int) -> tuple[float, float]:
    """See `pace.paces`."""
    alone = shape.flops_per_token(0)
    return (
        shape.kv_bytes_per_token(element_bytes) / shape.weight_bytes(element_bytes),
        (shape.flops_per_token(1) - alone) / alone,
    )


def _edges(mode: Mode, capture_sizes: Sequence[int], tiles: Sequence[int]) -> list[int]:
    """Sizes beside those of the mode with which both sides of likely jumps are measured."""
    captured = [x for x in capture_sizes if x in mode.sizes and x >= TILE]
    sides = [y for x in (captured if capture_sizes else tiles) if x < mode.top for y in (x, x + 1)]
    return [x for x in sides if x not in mode.sizes]


def _boundaries(mode: Mode, capture_sizes: Sequence[int]) -> tuple[int, ...]:
    return tuple(x for x in capture_sizes or range(TILE, mode.top, TILE) if x < mode.top)


def _verify_points(
    mode: Mode, batches: tuple[int, ...], contexts: tuple[int, ...], edges: Sequence[int]
) -> list[Point]:
    points = []
    for batch in _curve_batches(mode, batches):
        for context in contexts:
            wanted = {batch * x for x in mode.multiples} | {mode.top}
            first, shortest = batch == batches[0], context == contexts[0]
            if first and shortest:
                wanted |= {*mode.sizes, *edges}
            elif not first:
                wanted |= {*(mode.inner if shortest else mode.inner_long)}
            if shortest or mode.every_batch or batch in batches[:2]:
                wanted |= {batch + 1}  # the first token that speculation adds may cost most
            if not shortest and (first or mode.every_batch):
                wanted |= {INNER_SIZE}
            sizes = {x for x in wanted if batch <= x <= mode.top}
            points += [Point("verify", batch, x, context) for x in sorted(sizes)]
    return points


def _round_points(mode: Mode, batches: tuple[int, ...], contexts: tuple[int, ...]) -> list[Point]:
    points = [Point("plain_decode", x, x, contexts[0]) for x in batches]
    points += [
        Point("plain_decode", x, x, y) for x in _curve_batches(mode, batches) for y in contexts[1:]
    ]
    points += [Point("round_overhead", x, x, contexts[0]) for x in _ends(batches)]
    return [*points, Point("round_overhead", batches[-1], mode.top, contexts[0])]


def _draft_points(
    mode: Mode, batches: tuple[int, ...], contexts: tuple[int, ...], source: str
) -> list[Point]:
    """Of a model that drafts; what the longer contexts add is measured at one size."""
    points = []
    for batch in _ends(batches):
        first = batch == batches[0]
        rows = {batch, 16, mode.top} if first else {batch, mode.top}
        accepted = {batch, MOST_ACCEPTED * batches[-1]}
        points += [Point("draft_step", batch, x, contexts[0], source) for x in sorted(rows)]
        points += [Point("draft_catchup", batch, x, contexts[0], source) for x in sorted(accepted)]
        points += [
            Point(quantity, batch, batch, x, source)
            for quantity in ("draft_step", "draft_catchup")
            for x in contexts[1:]
        ]
    return points


def _lookup_points(
    mode: Mode, batches: tuple[int, ...], contexts: tuple[int, ...], source: str
) -> list[Point]:
    """Of a source that searches text, at the longest context only.

    What more rows or tokens add is next to the same at every batch: measured at the largest one.
    """
    largest = {"draft_step": mode.top, "draft_catchup": MOST_ACCEPTED * batches[-1]}
    return [
        Point(quantity, batch, size, contexts[-1], source)
        for quantity, most in largest.items()
        for batch, size in dict.fromkeys([*((x, x) for x in _ends(batches)), (batches[-1], most)])
    ]


def _curve_batches(mode: Mode, batches: tuple[int, ...]) -> tuple[int, ...]:
    """Those of the batches that fit at which verify passes have curves."""
    return batches if mode.every_batch else tuple(sorted({*batches[:2], batches[-1]}))


def _ends(batches: tuple[int, ...]) -> tuple[int, ...]:
    """The smallest and the largest batch: what drafting and bookkeeping take is even in between."""
    return tuple(sorted({batches[0], batches[-1]}))


def _held_out(
    mode: Mode, batches: tuple[int, ...], contexts: tuple[int, ...], fitted: set[Point]
) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """Two draws of quasi-random verify shapes, logarithmic in batch and tree size, none fitted."""
    sampler = qmc.Halton(d=3, seed=2604)
    points: dict[Point, None] = {}
    while len(points) < 2 * mode.held_out:
        for u, v, w in sampler.random(64):
            batch = round(batches[0] * (batches[-1] / batches[0]) ** u)
            size = round(batch * (mode.top / batch) ** v)
            context = round(contexts[0] + w * (contexts[-1] - contexts[0]))
            point = Point("verify", batch, int(np.clip(size, batch, mode.top)), context)
            if point not in fitted:
                points[point] = None
    drawn = tuple(points)
    fresh = drawn[mode.held_out : 2 * mode.held_out] if mode.redraw else ()
    return drawn[: mode.held_out], fresh

"""From measured points to surfaces: anchors, knots, roofline, knee. Pure arithmetic.

The measured anchors decide; the roofline explains. A curve that was measured at few sizes borrows
the shape of a denser one: its knots are that curve plus a difference that is interpolated linearly
between its own anchors and held beyond them, since what batch and context add (attention) grows
linearly in the number of tokens. A longer context borrows from the shortest one of its batch, a
larger batch from the densest curve. Jumps are found in each curve's own anchors (`steps.py`); a
borrowed shape brings those of its curve along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from smartprof.calibrate.steps import find_jumps
from smartprof.errors import ProfileError
from smartprof.profile.knees import with_intervals
from smartprof.profile.schema import Anchor, Curve, Knot, Roofline, Surface, spanned_domain
from smartprof.stats import Summary

SIZE_AXES = {
    "verify": "tokens",
    "plain_decode": "batch",
    "round_overhead": "tokens",
    "draft_step": "rows",
    "draft_catchup": "accepted",
}
WITHOUT_BATCH = ("plain_decode",)
WITHOUT_CONTEXT = ("round_overhead",)
DIGITS = 10  # significant ones of a fitted roofline


@dataclass(frozen=True)
class Place:
    """Where a curve lies: batch and context, None for an axis that the quantity does not have."""

    batch: int | None
    context: int | None


Curves = Mapping[Place, Mapping[int, Summary]]


@dataclass(frozen=True)
class Shape:
    """A curve as arrays [n]: sizes, seconds, half-widths; steps are sizes where it jumps up."""

    sizes: NDArray[np.float64]
    seconds: NDArray[np.float64]
    half_widths: NDArray[np.float64]
    steps: tuple[int, ...] = ()

    def at(self, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Seconds at these sizes: linear between, held outside."""
        return np.interp(sizes, self.sizes, self.seconds)


def fit_surface(
    quantity: str,
    points: Mapping[tuple[int, int, int], Summary],
    boundaries: Sequence[int] = (),
) -> Surface:
    """A surface through measured points {(batch, size, context): summary}.

    boundaries: sizes t after which a jump between two measured sizes is put, if there is one.
    Raises ProfileError when a curve of the product batches x contexts has no point at all.
    """
    curves = group(quantity, points)
    shapes = shapes_of(curves, boundaries)
    fitted = [_curve(place, shapes[place]) for place in sorted(curves, key=_order)]
    surface = Surface(
        size_axis=SIZE_AXES[quantity],  # type: ignore[arg-type]
        anchors=[_anchor(x, size, s) for x in curves for size, s in sorted(curves[x].items())],
        curves=fitted,
        domain=spanned_domain(fitted),
    )
    return with_intervals(surface)


def fit_roofline(sizes: NDArray[np.float64], seconds: NDArray[np.float64]) -> Roofline | None:
    """Two straight segments joined at a knee, the second at least as steep, none falling.

    Least squares of relative errors, by a scan over the knee: below it time grows slowly or not at
    all (memory-bound), above it with every token (compute-bound). sizes, seconds: [n]. None when
    fewer than four points leave nothing to fit.
    """
    if len(sizes) < 4:
        return None
    knees = np.geomspace(sizes[1], sizes[-2], 64)
    ratio = (sizes[-2] / sizes[1]) ** (1 / 63)
    coarse = _best_hinge(sizes, seconds, knees).knee
    finer = np.clip(np.geomspace(coarse / ratio, coarse * ratio, 33), sizes[1], sizes[-2])
    return _rounded(_best_hinge(sizes, seconds, finer))


def roofline_seconds(
    roofline: Roofline, sizes: NDArray[np.float64] | NDArray[np.int64]
) -> NDArray[np.float64]:
    """Seconds of the fitted roofline at these sizes, [n]."""
    below = roofline.floor_seconds + roofline.slope_below * np.minimum(sizes, roofline.knee)
    return below + roofline.slope_above * np.maximum(0.0, np.asarray(sizes) - roofline.knee)


def free_tokens(
    sizes: NDArray[np.float64], seconds: NDArray[np.float64], surcharge: float
) -> int | None:
    """Largest size whose seconds stay within 1 + surcharge of the first, along straight segments.

    None when no size of the curve costs more than that.
    """
    limit = seconds[0] * (1 + surcharge)
    above = np.flatnonzero(seconds > limit)
    if above.size == 0:
        return None
    last = int(above[0])
    share = (limit - seconds[last - 1]) / (seconds[last] - seconds[last - 1])
    return int(sizes[last - 1] + share * (sizes[last] - sizes[last - 1]))


def _rounded(roofline: Roofline) -> Roofline:
    """Without the digits in which a least-squares fit differs from processor to processor."""
    return Roofline(**{x: float(f"{y:.{DIGITS}g}") for x, y in roofline.model_dump().items()})


def _best_hinge(
    sizes: NDArray[np.float64], seconds: NDArray[np.float64], knees: NDArray[np.float64]
) -> Roofline:
    """The roofline of least relative squares with one of these knees; the first of equals."""

    def loss(roofline: Roofline) -> float:
        return float(np.sum((roofline_seconds(roofline, sizes) / seconds - 1) ** 2))

    return min((_hinge(sizes, seconds, x) for x in knees.tolist()), key=loss)


def _hinge(sizes: NDArray[np.float64], seconds: NDArray[np.float64], knee: float) -> Roofline:
    columns = np.stack([np.ones_like(sizes), sizes, np.maximum(0.0, sizes - knee)], axis=1)
    (floor, slope, bend), _ = nnls(columns / seconds[:, None], np.ones_like(seconds))
    return Roofline(floor_seconds=floor, slope_below=slope, slope_above=slope + bend, knee=knee)


def group(quantity: str, points: Mapping[tuple[int, int, int], Summary]) -> Curves:
    """Points {(batch, size, context): summary} by curve.

    Raises ProfileError when a curve of the product batches x contexts has no point at all.
    """
    curves: dict[Place, dict[int, Summary]] = {}
    for (batch, size, context), summary in points.items():
        place = Place(
            None if quantity in WITHOUT_BATCH else batch,
            None if quantity in WITHOUT_CONTEXT else context,
        )
        curves.setdefault(place, {})[size] = summary
    product = [Place(x.batch, y.context) for x in curves for y in curves]
    missing = [x for x in product if x not in curves]
    if missing:
        raise ProfileError(
            f"{quantity}: expected points at batch {missing[0].batch}, context "
            f"{missing[0].context}, got none: calibrate again"
        )
    return curves


def _order(place: Place) -> tuple[int, int]:
    return place.batch or 0, place.context or 0


def densest(curves: Curves) -> Place:
    """The curve of the shortest context with the most points: the base of all shapes."""
    shortest = min(x.context or 0 for x in curves)
    places = [x for x in curves if (x.context or 0) == shortest]
    return max(places, key=lambda x: (len(curves[x]), -(x.batch or 0)))


def lender(place: Place, curves: Curves) -> Place:
    """Whose shape a curve borrows: that of its batch at the shortest context, or the base."""
    base = densest(curves)
    return base if place.context == base.context else Place(place.batch, base.context)


def shapes_of(curves: Curves, boundaries: Sequence[int] = ()) -> dict[Place, Shape]:
    """Every curve as it is fitted. boundaries: see `fit_surface`."""
    base = densest(curves)
    shapes = {base: own_shape(curves[base], boundaries)}
    for place in sorted(curves, key=lambda x: (x.context or 0, x.batch or 0)):
        if place != base:
            own = own_shape(curves[place], boundaries)
            shapes[place] = borrowed_shape(own, shapes[lender(place, curves)])
    return shapes


def own_shape(summaries: Mapping[int, Summary], boundaries: Sequence[int] = ()) -> Shape:
    """A curve by its own anchors, with both sides of every jump that lies between two of them."""
    sizes = np.array(sorted(summaries), float)
    seconds = np.array([summaries[int(x)].median for x in sizes])
    halves = np.array([summaries[int(x)].ci_half_width for x in sizes])
    jumps = find_jumps(sizes, seconds, halves, boundaries)
    knots = dict(
        zip(sizes.tolist(), zip(seconds.tolist(), halves.tolist(), strict=True), strict=True)
    )
    for jump in jumps:
        unsure = (jump.after - jump.before) / 2  # of where it is
        knots.setdefault(jump.size - 1.0, (jump.before, unsure))
        knots.setdefault(float(jump.size), (jump.after, unsure))
    ordered = sorted(knots)
    return Shape(
        np.array(ordered),
        np.array([knots[x][0] for x in ordered]),
        np.array([knots[x][1] for x in ordered]),
        tuple(x.size for x in jumps),
    )


def borrowed_shape(own: Shape, lender: Shape) -> Shape:
    """The lender's shape moved onto a curve's own anchors, from its first one on."""
    inside = lender.sizes > own.sizes[0]
    sizes = np.union1d(own.sizes, lender.sizes[inside])
    moved = lender.at(sizes) + np.interp(sizes, own.sizes, own.seconds - lender.at(own.sizes))
    # A difference can outweigh a small value only where the lender is no guide at all.
    seconds = np.where(moved > 0, moved, own.at(sizes))
    mine = np.isin(sizes, own.sizes)
    seconds[mine] = own.seconds
    halves = np.interp(sizes, own.sizes, own.half_widths)
    lent = np.interp(sizes, lender.sizes, lender.half_widths)
    halves[~mine] = np.hypot(halves, lent)[~mine]  # a borrowed value has the noise of both
    steps = {int(x) for x in lender.steps if x - 1 >= own.sizes[0]} | set(own.steps)
    return Shape(sizes, seconds, halves, _rising(steps, sizes, seconds))


def _rising(
    steps: set[int], sizes: NDArray[np.float64], seconds: NDArray[np.float64]
) -> tuple[int, ...]:
    """Those of the steps at which this curve, too, has both sides and goes up."""
    value = dict(zip(sizes.tolist(), seconds.tolist(), strict=True))
    return tuple(x for x in sorted(steps) if value.get(x, 0.0) > value.get(x - 1, np.inf))


def _curve(place: Place, shape: Shape) -> Curve:
    sizes, seconds = shape.sizes, shape.seconds
    return Curve(
        batch=place.batch,
        context=place.context,
        knots=[
            Knot(size=int(x), seconds=float(y), ci_half_width=float(z))
            for x, y, z in zip(sizes, seconds, shape.half_widths, strict=True)
        ],
        roofline=fit_roofline(sizes, seconds),
        free_tokens_10=free_tokens(sizes, seconds, 0.10),
        free_tokens_10_interval=None,
        free_tokens_50=free_tokens(sizes, seconds, 0.50),
        free_tokens_50_interval=None,
        steps=list(shape.steps),
    )


def _anchor(place: Place, size: int, summary: Summary) -> Anchor:
    return Anchor(
        batch=place.batch,
        context=place.context,
        size=size,
        seconds=summary.median,
        spread=summary.spread,
        ci_half_width=summary.ci_half_width,
        samples=summary.samples,
    )

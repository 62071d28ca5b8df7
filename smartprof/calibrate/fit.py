"""From measured points to surfaces: anchors, knots, roofline, knee. Pure arithmetic.

The measured anchors decide; the roofline explains. A curve that was measured at few sizes borrows
the shape of the densest one: its knots are that curve plus a difference that is interpolated
linearly between its own anchors, since what batch and context add (attention) grows linearly in the
number of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

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
STEP = 0.05  # smaller jumps from one token to the next are slope
WITHOUT_BATCH = ("plain_decode",)
WITHOUT_CONTEXT = ("round_overhead",)


@dataclass(frozen=True)
class Place:
    """Where a curve lies: batch and context, None for an axis that the quantity does not have."""

    batch: int | None
    context: int | None


Curves = Mapping[Place, Mapping[int, Summary]]


def fit_surface(quantity: str, points: Mapping[tuple[int, int, int], Summary]) -> Surface:
    """A surface through measured points {(batch, size, context): summary}.

    Raises ProfileError when a curve of the product batches x contexts has no point at all.
    """
    curves = _group(quantity, points)
    base = _densest(curves)
    shape = _values(curves[base])
    fitted = [_fit_curve(place, curves[place], *shape) for place in sorted(curves, key=_order)]
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
    return _best_hinge(sizes, seconds, finer)


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


def _group(quantity: str, points: Mapping[tuple[int, int, int], Summary]) -> Curves:
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


def _densest(curves: Curves) -> Place:
    return max(curves, key=lambda x: (len(curves[x]), -(x.batch or 0), -(x.context or 0)))


def _values(summaries: Mapping[int, Summary]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    sizes = np.array(sorted(summaries), float)
    return sizes, np.array([summaries[int(x)].median for x in sizes])


def _fit_curve(
    place: Place,
    summaries: Mapping[int, Summary],
    base_sizes: NDArray[np.float64],
    base_seconds: NDArray[np.float64],
) -> Curve:
    own_sizes, own_seconds = _values(summaries)
    inside = (base_sizes > own_sizes[0]) & (base_sizes < own_sizes[-1])
    sizes = np.union1d(own_sizes, base_sizes[inside])
    extra = own_seconds - np.interp(own_sizes, base_sizes, base_seconds)
    borrowed = np.interp(sizes, base_sizes, base_seconds) + np.interp(sizes, own_sizes, extra)
    straight = np.interp(sizes, own_sizes, own_seconds)
    # A difference can outweigh a small base value only where the base is no guide at all.
    seconds = np.where(borrowed > 0, borrowed, straight)
    seconds[np.isin(sizes, own_sizes)] = own_seconds
    halves = np.interp(sizes, own_sizes, [summaries[int(x)].ci_half_width for x in own_sizes])
    return Curve(
        batch=place.batch,
        context=place.context,
        knots=[
            Knot(size=int(x), seconds=float(y), ci_half_width=float(z))
            for x, y, z in zip(sizes, seconds, halves, strict=True)
        ],
        roofline=fit_roofline(sizes, seconds),
        free_tokens_10=free_tokens(sizes, seconds, 0.10),
        free_tokens_10_interval=None,
        free_tokens_50=free_tokens(sizes, seconds, 0.50),
        free_tokens_50_interval=None,
        steps=_steps(summaries),
    )


def _steps(summaries: Mapping[int, Summary]) -> list[int]:
    """Sizes t with t - 1 and t both measured and a jump beyond both intervals and `STEP`."""
    found = []
    for size, after in sorted(summaries.items()):
        before = summaries.get(size - 1)
        if before is None:
            continue
        noise = after.ci_half_width + before.ci_half_width
        if after.median - before.median > max(noise, STEP * before.median):
            found.append(size)
    return found


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

"""Which verify pass to measure next: of the densest curve, or where batch and context interact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from smartprof.calibrate.adaptive import Split, best_split, split_size
from smartprof.calibrate.fit import (
    Curves,
    Place,
    Shape,
    borrowed_shape,
    densest,
    group,
    lender,
    own_shape,
    shapes_of,
)
from smartprof.calibrate.plan import Point
from smartprof.stats import Summary

LEAST_INTERACTION = 0.02  # relative deviation from an additive prediction that is worth a shape


def next_point(summaries: Mapping[Point, Summary], boundaries: Sequence[int]) -> Point | None:
    """The verify pass that promises most; None when everything is known to the noise."""
    curves = group("verify", verify_points(summaries))
    base = densest(curves)
    splits = {base: best_split(curves[base], boundaries)}
    for place, deviation in interactions(curves, boundaries).items():
        if deviation > LEAST_INTERACTION:
            splits[place] = _split_widest(curves[place], deviation, boundaries)
    found = {x: y for x, y in splits.items() if y is not None}
    if not found:
        return None
    place = max(found, key=lambda x: found[x].gain)
    assert place.batch is not None and place.context is not None
    return Point("verify", place.batch, found[place].size, place.context)


def verify_points(summaries: Mapping[Point, Summary]) -> dict[tuple[int, int, int], Summary]:
    """Summaries of verify passes by batch, size and context."""
    return {(x.batch, x.size, x.context): y for x, y in summaries.items() if x.quantity == "verify"}


def interactions(curves: Curves, boundaries: Sequence[int]) -> dict[Place, float]:
    """By how much curves stray from what their ends and the curve they borrow from predict.

    Relative, beyond the noise, largest over a curve's inner anchors; only curves that have any. Not
    0 means that what batch and context add is not linear in the tokens, so that shapes help there.
    It is no error of the fit, which goes through the inner anchors too.
    """
    base = densest(curves)
    shapes = shapes_of(curves, boundaries)
    return {
        x: _deviation(own, x, shapes, curves)
        for x, own in curves.items()
        if x != base and len(own) > 2
    }


def _deviation(
    own: Mapping[int, Summary], place: Place, shapes: Mapping[Place, Shape], curves: Curves
) -> float:
    ends = {x: own[x] for x in (min(own), max(own))}
    predicted = borrowed_shape(own_shape(ends), shapes[lender(place, curves)])
    sizes = np.array(sorted(own), float)
    medians = np.array([own[int(x)].median for x in sizes])
    noise = np.array([own[int(x)].ci_half_width for x in sizes])
    noise += np.interp(sizes, predicted.sizes, predicted.half_widths)
    return float(np.max((np.abs(predicted.at(sizes) - medians) - noise) / medians, initial=0.0))


def _split_widest(
    own: Mapping[int, Summary], deviation: float, boundaries: Sequence[int]
) -> Split | None:
    sizes = np.array(sorted(own))
    wide = int(np.argmax(np.log2(sizes[1:] / sizes[:-1])))
    low, high = int(sizes[wide]), int(sizes[wide + 1])
    if high - low < 2:
        return None
    return Split(split_size(low, high, boundaries), deviation / 2 / len(own))

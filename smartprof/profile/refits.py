"""Surfaces as a repeated measurement might have found them: the parametric bootstrap of a profile.

Every knot is drawn anew, lognormal around its seconds, as wide as its 95 % half-width says: what
the noise of measuring leaves open. Verify passes between measured sizes may stray further, by what
held-out points say of interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from smartprof.profile.axis import FloatArray
from smartprof.profile.scalars import LEAST_SECONDS, MOST_SECONDS
from smartprof.profile.schema import Curve, DrafterCosts, Knot, Profile, Surface

NORMAL_95 = 1.96
WIDEST = 1.0  # standard deviation of the logarithm; of a wider one nothing is known anyway


def drawn_seconds(curve: Curve, count: int, random: np.random.Generator) -> FloatArray:
    """float64 [count, knots]: the curve's seconds, drawn so many times."""
    seconds = np.array([x.seconds for x in curve.knots])
    halves = np.array([x.ci_half_width for x in curve.knots])
    deviation = np.minimum(halves / seconds / NORMAL_95, WIDEST)
    draws = seconds * np.exp(deviation * random.standard_normal((count, len(seconds))))
    return np.clip(draws, LEAST_SECONDS, MOST_SECONDS)


def refitted(profile: Profile, random: np.random.Generator, stray: float = 0.0) -> Profile:
    """One profile that is as likely as this one; its anchors and its quality are not drawn.

    stray: relative standard deviation of verify passes between measured sizes, noise aside; drawn
    at knots that are no anchors, and in the middle between knots. Only curves are to be asked.
    """
    return profile.model_copy(
        update={
            "verify": _drawn(_loosened(profile.verify, stray) if stray else profile.verify, random),
            "plain_decode": _drawn(profile.plain_decode, random),
            "round_overhead": _drawn(profile.round_overhead, random),
            "drafters": {x: _drawn_costs(y, random) for x, y in profile.drafters.items()},
        }
    )


def _drawn_costs(costs: DrafterCosts, random: np.random.Generator) -> DrafterCosts:
    return costs.model_copy(
        update={
            "draft_step": _drawn(costs.draft_step, random),
            "draft_catchup": _drawn(costs.draft_catchup, random),
        }
    )


def _drawn(surface: Surface, random: np.random.Generator) -> Surface:
    return surface.model_copy(update={"curves": [_drawn_curve(x, random) for x in surface.curves]})


def _drawn_curve(curve: Curve, random: np.random.Generator) -> Curve:
    (seconds,) = drawn_seconds(curve, 1, random).tolist()
    knots = [x.model_copy(update={"seconds": y}) for x, y in zip(curve.knots, seconds, strict=True)]
    return curve.model_copy(update={"knots": knots})


def _loosened(surface: Surface, stray: float) -> Surface:
    """With wider half-widths off the anchors, and a knot in every gap that has room for one."""
    measured = {(x.batch, x.context, x.size) for x in surface.anchors}
    curves = []
    for curve in surface.curves:
        knots = [
            x if (*curve.place, x.size) in measured else _widened(x, stray)
            for x in _with_middles(curve.knots)
        ]
        curves.append(curve.model_copy(update={"knots": knots}))
    return surface.model_copy(update={"curves": curves})


def _with_middles(knots: Sequence[Knot]) -> list[Knot]:
    found = [knots[0]]
    for low, high in pairwise(knots):
        size = round(math.sqrt(low.size * high.size))
        if low.size < size < high.size:
            share = (size - low.size) / (high.size - low.size)
            seconds, half = (
                getattr(low, x) * (1 - share) + getattr(high, x) * share
                for x in ("seconds", "ci_half_width")
            )
            found.append(Knot(size=size, seconds=seconds, ci_half_width=half))
        found.append(high)
    return found


def _widened(knot: Knot, stray: float) -> Knot:
    half = math.hypot(knot.ci_half_width, NORMAL_95 * stray * knot.seconds)
    return knot.model_copy(update={"ci_half_width": half})

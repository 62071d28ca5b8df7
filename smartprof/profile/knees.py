"""How sure the threshold knees of a curve are: intervals of `free_tokens_10` and `_50`.

A curve is known at its knots. That a refit crosses the limit between two of them says only that
the last free size is one from the first knot on and before the second; the interval covers that
for 95 % of the refits, so that a step between two knots does not escape it.
"""

from __future__ import annotations

import numpy as np

from smartprof.profile.axis import FloatArray
from smartprof.profile.refits import drawn_seconds
from smartprof.profile.schema import Curve, Surface

REFITS = 1000
TAIL = 0.025
Interval = tuple[int | None, int | None]


def with_intervals(surface: Surface) -> Surface:
    """The same surface, each curve with the intervals of its free tokens."""
    return surface.model_copy(update={"curves": [_with_intervals(x) for x in surface.curves]})


def free_interval(
    sizes: FloatArray, draws: FloatArray, surcharge: float, estimate: int | None
) -> Interval:
    """95 % interval of the largest size within 1 + surcharge of the first; None: beyond the last.

    sizes: [n], of the knots. draws: [refits, n], their seconds. The interval holds the estimate.
    """
    beyond = int(sizes[-1]) + 1
    above = draws > draws[:, :1] * (1 + surcharge)
    first = above.argmax(axis=1)
    crosses = above.any(axis=1)
    lows = np.where(crosses, sizes[first - 1], beyond)
    highs = np.where(crosses, sizes[first] - 1, beyond)
    middle = beyond if estimate is None else estimate
    low = min(int(np.quantile(lows, TAIL, method="inverted_cdf")), middle)
    high = max(int(np.quantile(highs, 1 - TAIL, method="inverted_cdf")), middle)
    return (None if low == beyond else low, None if high == beyond else high)


def _with_intervals(curve: Curve) -> Curve:
    sizes = np.array([x.size for x in curve.knots], np.float64)
    draws = drawn_seconds(curve, REFITS, np.random.default_rng(0))
    return curve.model_copy(
        update={
            "free_tokens_10_interval": free_interval(sizes, draws, 0.10, curve.free_tokens_10),
            "free_tokens_50_interval": free_interval(sizes, draws, 0.50, curve.free_tokens_50),
        }
    )

"""Where a measured curve jumps: decided by leave-one-out cross-validation, interval by interval.

Around the gap between two neighbouring sizes three models are fitted to the nearest points: a
line, two lines that meet in the gap, and two parallel lines with a jump in it. The jump is taken
where it predicts left-out points better than both others and exceeds the noise. Other jumps nearby
would spoil that, so no look goes beyond them. Pure arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_STEP = 0.05  # of the seconds before it; what is less is slope
SIDE = 3  # points of each side that are looked at
SPAN = 2.0  # and how many times as large or small they may be
LEAST_POINTS = 4
BETTER = 0.5  # share of the other models' squared errors that the jump's may have
MUCH_BETTER = 0.1  # where nothing was measured between: a jump is put there only then
FINE = 0.25  # share of a gap below which a distance between points says nothing of its slope
MOST_LEVERAGE = 0.999  # a point that alone decides a parameter cannot be predicted from the others


@dataclass(frozen=True)
class Jump:
    """A jump up between two neighbouring points, by their indices; seconds at both of its sides.

    size: the first of the higher ones; what lies between the two points is not known better.
    """

    low: int
    size: int
    before: float
    after: float


def find_jumps(
    sizes: NDArray[np.float64],
    seconds: NDArray[np.float64],
    half_widths: NDArray[np.float64],
    boundaries: Sequence[int] = (),
) -> list[Jump]:
    """Jumps of a curve, ascending. sizes (rising), seconds and their half-widths: [n].

    boundaries: sizes t after which a jump is likelier than elsewhere. Where the two points around
    a jump have other sizes between them, it is put after the boundary of the most even number, or
    in the middle.
    """
    rises, noise = np.diff(seconds), half_widths[1:] + half_widths[:-1]
    limits = np.maximum(noise, LEAST_STEP * seconds[:-1])
    # A fall ends what is smooth as well, but is no step up.
    cuts = set(np.flatnonzero(-rises > limits).tolist())
    candidates = set(np.flatnonzero((rises > limits) & (np.diff(sizes) == 1)).tolist())
    found: dict[int, Jump] = {}
    for low in np.argsort(-rises / seconds[:-1]).tolist():
        if rises[low] <= limits[low]:
            continue
        slope = _first_slope(sizes, seconds, low, cuts, candidates, float(limits[low]))
        if slope is not None:
            found[low] = _placed(sizes, seconds, low, slope, boundaries)
            cuts.add(low)
    return [found[x] for x in sorted(found)]


def _first_slope(
    sizes: NDArray[np.float64],
    seconds: NDArray[np.float64],
    low: int,
    cuts: set[int],
    candidates: set[int],
    limit: float,
) -> float | None:
    """Slope beside the jump in the first of several windows, wide ones first, that shows one."""
    for side, ends in ((SIDE, cuts), (SIDE, cuts | candidates), (2, cuts)):
        window = _window(sizes, low, ends, side)
        few = window.stop - window.start < LEAST_POINTS
        if few and ends is not cuts:
            continue  # it is too narrow because of what may be no jump
        slope = _slope_beside_jump(sizes, seconds, low, window, limit)
        if slope is not None:
            return slope
    return None


def _window(sizes: NDArray[np.float64], low: int, cuts: set[int], side: int) -> slice:
    """The nearest points of both sides, none beyond another interval that is cut."""
    left = max((x + 1 for x in cuts if x < low), default=0)
    right = min((x for x in cuts if x > low), default=len(sizes) - 1)
    first, last = max(left, low - side + 1), min(right, low + side)
    while sizes[first] < sizes[low] / SPAN:
        first += 1
    while sizes[last] > sizes[low + 1] * SPAN:
        last -= 1
    return slice(first, last + 1)


def _slope_beside_jump(
    sizes: NDArray[np.float64],
    seconds: NDArray[np.float64],
    low: int,
    window: slice,
    limit: float,
) -> float | None:
    """Slope of both sides if there is a jump between the points low and low + 1, else None."""
    kept = _spaced(sizes, low, window)
    x, y = sizes[kept], seconds[kept]
    rise = float(seconds[low + 1] - seconds[low])
    gap = float(sizes[low + 1] - sizes[low])
    if len(x) < LEAST_POINTS:  # nothing is left to predict: only what neighbouring sizes show
        slopes = np.diff(y) / np.diff(x)
        slope = float(slopes[slopes != rise / gap].max(initial=0.0))
        return slope if gap == 1 and rise - slope > limit else None
    middle = (sizes[low] + sizes[low + 1]) / 2
    line = np.stack([np.ones_like(x), x - middle], axis=1)
    bend = np.column_stack([line, np.maximum(x - middle, 0.0)])
    jump = np.column_stack([line, (x > middle).astype(float)])
    errors = _left_out_errors((line, bend, jump), y)
    better = BETTER if gap == 1 else MUCH_BETTER
    if errors is None or errors[2] > better * min(errors[:2]):
        return None
    coefficients = np.linalg.lstsq(jump / y[:, None], np.ones_like(y), rcond=None)[0]
    slope = max(0.0, float(coefficients[1]))
    height = rise - slope * gap
    return slope if height > limit else None


def _spaced(sizes: NDArray[np.float64], low: int, window: slice) -> list[int]:
    """The points of a window without those that lie too close together for so wide a gap.

    Time may be flat from one size to the next, within a tile, and rise all the same from tile to
    tile: of such points only the one next to the gap counts.
    """
    least = FINE * (sizes[low + 1] - sizes[low])
    kept = [low, low + 1]
    for index in range(low - 1, window.start - 1, -1):
        if sizes[kept[0]] - sizes[index] >= least:
            kept.insert(0, index)
    for index in range(low + 2, window.stop):
        if sizes[index] - sizes[kept[-1]] >= least:
            kept.append(index)
    return kept


def _left_out_errors(
    designs: Sequence[NDArray[np.float64]], seconds: NDArray[np.float64]
) -> list[float] | None:
    """Squared relative errors at points left out of least squares, over those all can predict."""
    residuals, leverages = [], []
    for design in designs:
        scaled = design / seconds[:, None]
        hat = scaled @ np.linalg.pinv(scaled)
        leverages.append(np.diag(hat))
        residuals.append(1 - hat.sum(axis=1))
    predictable = np.max(leverages, axis=0) < MOST_LEVERAGE
    if not predictable.any():
        return None
    return [
        float(np.sum((x[predictable] / (1 - y[predictable])) ** 2))
        for x, y in zip(residuals, leverages, strict=True)
    ]


def _placed(
    sizes: NDArray[np.float64],
    seconds: NDArray[np.float64],
    low: int,
    slope: float,
    boundaries: Sequence[int],
) -> Jump:
    first, last = int(sizes[low]), int(sizes[low + 1])
    likely = [x for x in boundaries if first <= x < last]
    before = max(likely, key=lambda x: x & -x) if likely else (first + last - 1) // 2
    before_seconds = float(seconds[low] + slope * (before - first))
    after_seconds = float(seconds[low + 1] - slope * (last - before - 1))
    return Jump(low, before + 1, before_seconds, after_seconds)

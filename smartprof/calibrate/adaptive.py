"""Where one more size of a curve helps most, from what was measured so far. Pure arithmetic.

An interval between two measured sizes may hide a jump or a fall. How far a straight line across it
may be off is read from how much steeper or flatter it is than its neighbours; what matters is that
error where trees land, and over how many sizes. An interval found worth splitting is bisected,
boundaries first, until the predicted error is below the noise or there is no size left between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smartprof.stats import Summary

# Accepted tokens per round by tree size m of one request: (1 - q^(1 + log2 m)) / (1 - q).
CONTINUATIONS = (0.5, 0.65, 0.8, 0.9)
BATCHES = (1, 4, 16)
NEARLY_BEST = 0.97  # of the highest tokens per second: where a chosen tree may land
ELSEWHERE = 0.25  # interest of sizes where none of these trees lands
TRUSTED = 1 / 32  # of a rise that continues its neighbours', the share that may still be a jump
LEAST_ERROR = 0.004


@dataclass(frozen=True)
class Split:
    """A size to measure next, and the relative error that it may take away, weighted."""

    size: int
    gain: float


def best_split(curve: Mapping[int, Summary], boundaries: Sequence[int]) -> Split | None:
    """The size whose measurement promises most; None when nothing exceeds the noise.

    curve: summaries by size. boundaries: sizes t such that a jump from t to t + 1 is likely.
    """
    sizes = np.array(sorted(curve))
    if len(sizes) < 3:
        return None
    seconds = np.array([curve[x].median for x in sizes.tolist()])
    noise = np.array([curve[x].ci_half_width for x in sizes.tolist()])
    errors = predicted_errors(sizes, seconds, noise)
    floor = max(LEAST_ERROR, float(np.median(noise / seconds)) / 2)
    errors[(errors < floor) | (np.diff(sizes) == 1)] = 0.0
    gains = errors * interest(sizes, seconds) * np.log2(sizes[1:] / sizes[:-1])
    best = int(np.argmax(gains))
    if gains[best] == 0.0:
        return None
    return Split(split_size(int(sizes[best]), int(sizes[best + 1]), boundaries), float(gains[best]))


def predicted_errors(
    sizes: NDArray[np.int64], seconds: NDArray[np.float64], noise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Relative error that a straight line across each interval may have, [n - 1] from [n].

    noise: half-widths of the seconds. Half of what the rise differs from that of the neighbouring
    intervals, less the noise, and what their own difference in slope lets it curve. Neighbours
    whose slope is a measured jump (one token wide) say nothing.
    """
    widths, rises = np.diff(sizes), np.diff(seconds)
    slopes = rises / widths
    unsure = (noise[1:] + noise[:-1]) / widths  # of the slopes
    errors = np.zeros(len(widths))
    for i, width in enumerate(widths.tolist()):
        near = [x for x in (_wide(widths, i, -1), _wide(widths, i, 1)) if x is not None]
        low = min((slopes[x] for x in near), default=0.0)
        high = max((slopes[x] for x in near), default=0.0)
        excess = abs(slopes[i] - np.clip(slopes[i], low, high)) * width
        hidden = max(0.0, excess - noise[i] - noise[i + 1]) / 2
        curved = max(0.0, high - low - unsure[near].sum()) * width / 8
        likely = max(hidden, min(curved, abs(rises[i]) / 2), TRUSTED * abs(rises[i]))
        errors[i] = likely / min(seconds[i], seconds[i + 1])
    return errors


def _wide(widths: NDArray[np.int64], index: int, direction: int) -> int | None:
    """The next interval in a direction that is wider than one token."""
    index += direction
    while 0 <= index < len(widths):
        if widths[index] > 1:
            return index
        index += direction
    return None


def interest(sizes: NDArray[np.int64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """How often the fastest tree lands between two sizes, from `ELSEWHERE` to 1; [n - 1] from [n].

    Over stated chances that a draft goes on, and over batches whose passes cost the same.
    """
    tokens = np.arange(sizes[0], sizes[-1] + 1)
    cost = np.interp(tokens, sizes, seconds)
    landed = np.zeros(len(sizes) - 1)
    count = 0
    for batch in (x for x in BATCHES if 2 * x <= sizes[-1]):
        for going_on in CONTINUATIONS:
            of_request = np.maximum(tokens / batch, 1.0)
            accepted = (1 - going_on ** (1 + np.log2(of_request))) / (1 - going_on)
            rate = np.where(tokens >= batch, accepted / cost, 0.0)
            near = tokens[rate >= NEARLY_BEST * rate.max()]
            landed += np.histogram(near, bins=np.append(sizes[:-1], sizes[-1] + 1))[0] > 0
            count += 1
    return ELSEWHERE + (1 - ELSEWHERE) * landed / count


def split_size(low: int, high: int, boundaries: Sequence[int]) -> int:
    """A size between low and high: the other side of a boundary at an end, a boundary, the middle.

    Of the boundaries inside, the one nearest to the middle that is the most even number.
    """
    if low in boundaries and low + 1 < high:
        return low + 1
    middle = (low * high) ** 0.5 if high > 2 * low else (low + high) / 2
    inside = [x for x in boundaries if low < x < high]
    if not inside:
        return min(max(round(middle), low + 1), high - 1)
    central = [x for x in inside if abs(x - middle) <= (high - low) / 4] or inside
    return max(central, key=lambda x: (x & -x, -abs(x - middle)))

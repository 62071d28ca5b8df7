"""Medians with intervals, and timings beside other work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
RESAMPLES = 400


@dataclass(frozen=True)
class Summary:
    """Median of repeated timings, their spread (MAD) and the 95 % half-width of the median."""

    median: float
    spread: float
    ci_half_width: float
    samples: int


def summarise(samples: Sequence[float]) -> Summary:
    """Median, median absolute deviation and bootstrap interval of the median.

    Raises ValueError on an empty sequence: a missing measurement is not a number.
    """
    values = np.asarray(samples, float)
    if values.size == 0:
        raise ValueError("no samples")
    median = float(np.median(values))
    spread = float(np.median(np.abs(values - median)))
    if values.size < 3:  # too few to resample; of one alone nothing is known but its size
        half = float(np.ptp(values)) / 2 if values.size > 1 else median
        return Summary(median, spread, half, values.size)
    low, high = bootstrap_interval(values, lambda x: np.median(x, axis=-1))
    return Summary(median, spread, (high - low) / 2, values.size)


def bootstrap_interval(
    values: NDArray[np.float64],
    statistic: Statistic,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of a statistic over resampled values.

    values: [n, ...]; `statistic` maps an array [resamples, n, ...] to [resamples].
    """
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(values), (resamples, len(values)))
    low, high = np.quantile(statistic(values[picks]), [0.025, 0.975])
    return float(low), float(high)


def undisturbed(seconds: Sequence[float]) -> float:
    """The lower quartile of timings of one thing: other work on the machine only ever adds."""
    return float(np.quantile(seconds, 0.25))

"""When a point was timed often enough, and which samples are outliers. Pure arithmetic.

The rule is in the manner of nvbench (https://github.com/NVIDIA/nvbench): a point is settled when
the interval of its median is narrow, or when its noise is known and more samples would only confirm
it, or at a cap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smartprof.stats import Summary, summarise

OUTLIER_SPREADS = 8.0  # median absolute deviations above the median: 5.4 standard deviations
LEAST_OUTLIER = 1.2  # and at least so many times the median


@dataclass(frozen=True)
class StoppingRule:
    """What settles a point.

    goal: 95 % half-width over median. least, most: samples. converged: how much the relative noise
    may have changed, relatively, while the last half of the samples came.
    """

    goal: float
    least: int = 6
    most: int = 200
    converged: float = 0.1

    def settled(self, samples: Sequence[float]) -> bool:
        """Whether more samples are not worth their time."""
        if len(samples) < self.least:
            return False
        return (
            len(samples) >= self.most
            or relative_half_width(summarise(samples)) <= self.goal
            or self._noise_converged(samples)
        )

    def _noise_converged(self, samples: Sequence[float]) -> bool:
        if len(samples) < 4 * self.least:
            return False
        start = len(samples) // 2
        noise = np.array([_relative_spread(samples[:x]) for x in range(start, len(samples) + 1)])
        return bool(np.ptp(noise) <= self.converged * noise[-1])


def relative_half_width(summary: Summary) -> float:
    """Half-width of the median's interval over the median."""
    return summary.ci_half_width / summary.median


def outliers(samples: Sequence[float]) -> NDArray[np.bool_]:
    """Which samples, [n], took far longer than the rest. They stay: a median bears them."""
    values = np.asarray(samples, float)
    median = np.median(values)
    limit = median + OUTLIER_SPREADS * float(np.median(np.abs(values - median)))
    return values > max(limit, LEAST_OUTLIER * median)


def _relative_spread(samples: Sequence[float]) -> float:
    values = np.asarray(samples)
    median = float(np.median(values))
    return float(np.median(np.abs(values - median))) / median

"""Where a value lies among the measured values of an axis."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Bracket:
    """Neighbours `low` and `high` by index, and the weight of `high`: above 1 beyond the last."""

    low: int
    high: int
    weight: float


class Axis:
    """The increasing values that a surface was measured at; none for an axis it does not have."""

    def __init__(self, values: Sequence[int]) -> None:
        self.values = tuple(values)

    def bracket(self, value: float | None) -> Bracket:
        """Neighbours to interpolate between; the last two beyond the end, the first one below."""
        values = self.values
        if value is None or len(values) < 2 or value <= values[0]:
            return Bracket(0, 0, 0.0)
        high = min(bisect_left(values, value), len(values) - 1)
        if values[high] == value:
            return Bracket(high, high, 0.0)
        below = values[high - 1]
        return Bracket(high - 1, high, (value - below) / (values[high] - below))

    def contains(self, value: float | None) -> bool:
        """Whether the value lies between the smallest and the largest, or the axis is absent."""
        return not self.values or (value is not None and self.values[0] <= value <= self.values[-1])


def blend(low: FloatArray, high: FloatArray, weight: float) -> FloatArray:
    """Linear between the two; beyond `high` the slope continues but never falls."""
    if weight <= 1.0:
        return low * (1.0 - weight) + high * weight
    return high + np.maximum(high - low, 0.0) * (weight - 1.0)

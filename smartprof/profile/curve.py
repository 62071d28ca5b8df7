"""One curve of a surface as arrays: seconds against size at one batch and context."""

from __future__ import annotations

import numpy as np

from smartprof.profile.axis import FloatArray
from smartprof.profile.schema import Curve


class CurveArrays:
    """Evaluates a curve at any sizes.

    lower: the curve of the next smaller batch at the same context, None for the smallest batch. A
    curve of batch B starts at B tokens; for fewer, which interpolation between two batches asks
    for, it takes the shape of `lower`. of_batches: the sizes are batches, as plain decoding's are.
    """

    def __init__(self, curve: Curve, lower: CurveArrays | None, of_batches: bool = False) -> None:
        self.sizes = np.array([x.size for x in curve.knots], np.float64)
        self.values = np.array([x.seconds for x in curve.knots])
        self.widths = np.array([x.ci_half_width for x in curve.knots])
        self.first, self.last = float(self.sizes[0]), float(self.sizes[-1])
        self.least = float(self.values.min())
        self.lower = lower
        self.of_batches = of_batches
        self.lower_at_first = (
            float(lower.seconds(self.sizes[:1], self.first, self.first)[0]) if lower else 0.0
        )

    def seconds(self, sizes: FloatArray, smallest: float, largest: float) -> FloatArray:
        """Seconds at sizes [n], whose extremes are given: linear between knots.

        Above the last knot seconds per unit of size stay those of the last knot; of batches the
        line through the last two goes on, as it does from curve to curve of other quantities.
        """
        found = np.interp(sizes, self.sizes, self.values)
        np.maximum(found, self.least, out=found)  # rounding on a very steep fall
        if largest > self.last:
            found = self._above_last(sizes, found)
        if smallest < self.first and self.lower is not None:
            below = sizes < self.first
            found[below] = self._below_first(sizes[below], smallest, self.lower)
        return found

    def _above_last(self, sizes: FloatArray, found: FloatArray) -> FloatArray:
        """The values found, [n], with those of sizes above the last knot carried on from it."""
        if not self.of_batches:
            return found * np.maximum(sizes / self.last, 1.0)
        if len(self.sizes) == 1:
            return found
        (low, high), (before, last) = self.sizes[-2:], self.values[-2:]
        return found + max(last - before, 0.0) / (high - low) * np.maximum(sizes - high, 0.0)

    def _below_first(self, sizes: FloatArray, smallest: float, lower: CurveArrays) -> FloatArray:
        """First value scaled by lower(size) / lower(first), within size / first and 1.

        The bounds are those of a pass that is all work and of one that is all fixed cost.
        """
        scale = lower.seconds(sizes, smallest, self.first) / self.lower_at_first
        return float(self.values[0]) * np.minimum(np.maximum(scale, sizes / self.first), 1.0)

    def half_widths(self, sizes: FloatArray) -> FloatArray:
        """95 % half-widths at sizes [n], linear between knots, held outside."""
        return np.interp(sizes, self.sizes, self.widths)

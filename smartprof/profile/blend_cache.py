"""Surfaces asked again and again at the same batch and nearly the same context."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smartprof.profile.axis import FloatArray
from smartprof.profile.surface import REACH, SurfaceEvaluator

ROUNDING = 16  # tokens of context
LONGEST_TABLE = 4096
MOST_TABLES = 256


class BlendCache:
    """Tables of seconds by size, one per batch and rounded context, made when first asked for."""

    def __init__(self, evaluator: SurfaceEvaluator) -> None:
        self.evaluator = evaluator
        self._start = max(1, math.ceil(evaluator.domain.size[0] / REACH))
        self._stop = min(int(evaluator.domain.size[1] * REACH), LONGEST_TABLE)
        self._tables: dict[tuple[int, float], FloatArray] = {}

    def rounded(self, context: float) -> float:
        """The context that stands for this one: the nearest multiple of 16 tokens.

        A measured context stands for itself, so that anchors stay exact; one inside the domain
        never leaves it, and one that must be refused is not changed.
        """
        measured = self.evaluator.contexts.values
        if not measured:
            return 0.0
        reach = max(measured[-1], 1) * REACH
        if context in measured or not 0 <= context <= reach:
            return context
        nearest = float(ROUNDING * round(context / ROUNDING))
        if measured[0] <= context <= measured[-1]:
            return min(max(nearest, measured[0]), measured[-1])
        return min(nearest, reach)

    def seconds(self, batch: int, sizes: NDArray[Any], context: float) -> FloatArray:
        """Seconds at integer sizes [n] -> float64 [n], at the rounded context.

        Raises DomainError more than two octaves outside the domain.
        """
        near = self.rounded(context)
        if sizes.size == 0:
            return np.empty(0)
        largest = int(sizes.max())
        if largest > self._stop or sizes.min() < self._start:
            return self.evaluator.seconds(batch, sizes, near)
        table = self._tables.get((batch, near))
        if table is None or self._start + len(table) <= largest:
            table = self._make_table(batch, near, largest)
        return table[sizes - self._start]

    def _make_table(self, batch: int, context: float, largest: int) -> FloatArray:
        if len(self._tables) >= MOST_TABLES:
            self._tables.clear()
        stop = min(self._stop, max(255, 2 * largest))  # room to grow, so that few are made twice
        sizes = np.arange(self._start, stop + 1)
        table = self.evaluator.seconds(batch, sizes, context)
        self._tables[batch, context] = table
        return table

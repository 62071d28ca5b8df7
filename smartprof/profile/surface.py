"""The one rule that turns a surface into seconds, and says how sure it is.

The rule is written in profiles/SCHEMA.md, "From a query to seconds"; here for many sizes at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from smartprof.errors import DomainError
from smartprof.profile.axis import Axis, Bracket, FloatArray, blend
from smartprof.profile.curve import CurveArrays
from smartprof.profile.schema import Surface

Tier = Literal["exact", "interpolated", "extrapolated"]
REACH = 4.0  # two octaves

Reading = Callable[[CurveArrays], FloatArray]


class SurfaceEvaluator:
    """A surface as arrays. `name` is what errors call it.

    Examples
    --------
    >>> SurfaceEvaluator(profile.verify, "verify").seconds(4, [4, 8, 16], 512.0)  # doctest: +SKIP
    array([0.0461, 0.0532, 0.0694])
    """

    def __init__(self, surface: Surface, name: str = "surface") -> None:
        self.name = name
        self.size_axis = surface.size_axis
        self.domain = surface.domain
        self.batches = Axis(sorted({x.batch for x in surface.curves if x.batch is not None}))
        self.contexts = Axis(sorted({x.context for x in surface.curves if x.context is not None}))
        self._curves = _ordered_curves(surface, self.batches, self.contexts)
        self._anchors = {(x.batch, x.context, x.size) for x in surface.anchors}
        self._size_limits = (surface.domain.size[0] / REACH, surface.domain.size[1] * REACH)

    def seconds(self, batch: float | None, sizes: ArrayLike, context: float | None) -> FloatArray:
        """Seconds at each of `sizes` [n] -> float64 [n].

        batch and context may be None, and are not looked at, where the surface has no such axis.
        context may be a mean over requests. Raises DomainError more than two octaves outside.
        """
        wanted = np.atleast_1d(np.asarray(sizes, np.float64))
        if wanted.size == 0:
            return wanted.copy()
        smallest, largest = float(wanted.min()), float(wanted.max())
        self._require_reach(batch, smallest, largest, context)
        return self._blended(
            self.batches.bracket(batch),
            self.contexts.bracket(context),
            lambda curve: curve.seconds(wanted, smallest, largest),
        )

    def half_widths(
        self, batch: float | None, sizes: ArrayLike, context: float | None
    ) -> FloatArray:
        """95 % half-widths [n] of the seconds, interpolated as they are; those of the edge outside.

        They tell the noise of the measurement, not the error of interpolating.
        """
        wanted = np.atleast_1d(np.asarray(sizes, np.float64))
        return self._blended(
            _held(self.batches.bracket(batch)),
            _held(self.contexts.bracket(context)),
            lambda curve: curve.half_widths(wanted),
        )

    def tier(self, batch: float | None, size: float, context: float | None) -> Tier:
        """How the seconds of a point are found.

        "extrapolated" beyond the batches or contexts, beyond the last knot of a curve that is read,
        or below the first knot of all of them. Raises DomainError as `seconds` does.
        """
        self._require_reach(batch, size, size, context)
        place = (
            batch if self.batches.values else None,
            context if self.contexts.values else None,
        )
        if (*place, size) in self._anchors:
            return "exact"
        read = self._read(self.batches.bracket(batch), self.contexts.bracket(context))
        inside = (
            self.batches.contains(batch)
            and self.contexts.contains(context)
            and min(x.first for x in read) <= size <= min(x.last for x in read)
        )
        return "interpolated" if inside else "extrapolated"

    def _read(self, batch: Bracket, context: Bracket) -> list[CurveArrays]:
        rows = {context.low, context.high}
        return [self._curves[x][y] for x in rows for y in {batch.low, batch.high}]

    def _blended(self, batch: Bracket, context: Bracket, reading: Reading) -> FloatArray:
        low = _along_batch(self._curves[context.low], batch, reading)
        if context.low == context.high:
            return low
        high = _along_batch(self._curves[context.high], batch, reading)
        return blend(low, high, context.weight)

    def _require_reach(
        self, batch: float | None, smallest: float, largest: float, context: float | None
    ) -> None:
        if self.batches.values:
            low, high = self.batches.values[0], self.batches.values[-1]
            self._require("batch", batch, low / REACH, high * REACH)
        lowest, highest = self._size_limits
        if not (lowest <= smallest and largest <= highest):
            wrong = largest if lowest <= smallest else smallest
            self._refuse(self.size_axis, wrong, lowest, highest)
        if self.contexts.values:
            self._require("context", context, 0.0, max(self.contexts.values[-1], 1) * REACH)

    def _require(self, axis: str, value: float | None, lowest: float, highest: float) -> None:
        if value is None or not lowest <= value <= highest:
            self._refuse(axis, value, lowest, highest)

    def _refuse(self, axis: str, value: float | None, lowest: float, highest: float) -> NoReturn:
        asked = (
            f"{self.name}: expected {axis} within {lowest:g} to {highest:g} (two octaves around "
        )
        asked += f"what was measured), got {'none' if value is None else f'{value:g}'}"
        if value is None or not math.isfinite(value) or value <= 0:
            raise DomainError(f"{asked}: ask for a positive number")
        edge = math.ceil(value / REACH) if value > highest else math.floor(value * REACH)
        raise DomainError(f"{asked}: calibrate with {axis} {edge} or {_side(value, highest)}")


def _side(value: float, highest: float) -> str:
    return "more" if value > highest else "less"


def _held(bracket: Bracket) -> Bracket:
    return Bracket(bracket.low, bracket.high, min(bracket.weight, 1.0))


def _along_batch(curves: Sequence[CurveArrays], batch: Bracket, reading: Reading) -> FloatArray:
    low = reading(curves[batch.low])
    if batch.low == batch.high:
        return low
    return blend(low, reading(curves[batch.high]), batch.weight)


def _ordered_curves(surface: Surface, batches: Axis, contexts: Axis) -> list[list[CurveArrays]]:
    """Curves by index of context, then of batch; one where the surface lacks the axis."""
    by_place = {x.place: x for x in surface.curves}
    found = []
    for context in contexts.values or (None,):
        row: list[CurveArrays] = []
        for batch in batches.values or (None,):
            lower = row[-1] if row else None
            row.append(CurveArrays(by_place[batch, context], lower, surface.size_axis == "batch"))
        found.append(row)
    return found

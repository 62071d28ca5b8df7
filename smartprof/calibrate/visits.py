"""What a sweep yields."""

from __future__ import annotations

from dataclasses import dataclass

from smartprof.calibrate.plan import Point

Samples = dict[Point, list[float]]


@dataclass(frozen=True)
class Visit:
    """One point, timed once over: seconds of each repetition."""

    point: Point
    samples: tuple[float, ...]

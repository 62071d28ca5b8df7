"""What a sweep yields, and what it adds up to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from smartprof.calibrate.plan import Point

Samples = dict[Point, list[float]]


@dataclass(frozen=True)
class Visit:
    """One point, timed once over: seconds of each repetition.

    replaced: samples of an earlier visit that fell into a spell of another pace; they count no
    longer.
    """

    point: Point
    samples: tuple[float, ...]
    replaced: tuple[float, ...] = ()


def add_visit(samples: Samples, visit: Visit) -> None:
    """Let a visit count, and what it replaces no longer."""
    known = samples.setdefault(visit.point, [])
    for value in visit.replaced:
        if value in known:
            known.remove(value)
    known.extend(visit.samples)


def totals(visits: Iterable[Visit]) -> Samples:
    """All samples that count after these visits, by point."""
    samples: Samples = {}
    for visit in visits:
        add_visit(samples, visit)
    return samples

"""One or two sweeps over the same points: what each has, how far they differ, and their union."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smartprof.calibrate.journal import Journal
from smartprof.calibrate.sweep import Samples, Visit
from smartprof.profile.quality import Repeatability


@dataclass
class SweepRecord:
    """Samples of one sweep, saved in a journal of their own.

    complete: a later sweep had begun when the calibration was interrupted.
    """

    journal: Journal
    samples: Samples
    complete: bool = False

    def add(self, visit: Visit) -> None:
        """Save a visit, then let it count."""
        self.journal.add(visit)
        self.samples.setdefault(visit.point, []).extend(visit.samples)


def resumed(journal: Journal, known: Samples, sweeps: int) -> list[SweepRecord]:
    """Records of one or two sweeps with what an interrupted run left of them.

    known: samples of the first sweep; those of the second are read from its journal.
    """
    first = SweepRecord(journal, {x: list(y) for x, y in known.items()})
    if sweeps == 1:
        return [first]
    second = SweepRecord(journal.second(), journal.second().read())
    first.complete = bool(second.samples)
    return [first, second]


def pooled(sweeps: Sequence[Samples]) -> Samples:
    """All samples of every point, those of the first sweep first."""
    samples: Samples = {}
    for sweep in sweeps:
        for point, found in sweep.items():
            samples.setdefault(point, []).extend(found)
    return samples


def repeatability(sweeps: Sequence[Samples]) -> Repeatability | None:
    """How far the medians of two sweeps differ; None of one sweep, or without a common point."""
    if len(sweeps) < 2:
        return None
    one, other = sweeps
    shared = [x for x in one if x in other]
    if not shared:
        return None
    first, second = (np.array([np.median(x[y]) for y in shared]) for x in sweeps)
    differences = 200 * np.abs(first - second) / (first + second)
    return Repeatability(
        shapes=len(shared),
        median_pct=float(np.median(differences)),
        p95_pct=float(np.quantile(differences, 0.95)),
        max_pct=float(differences.max()),
    )

"""One or two sweeps over the same points: what each has, how far they differ, and their union."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from smartprof.calibrate.clocks import ClockWatch
from smartprof.calibrate.journal import Journal
from smartprof.calibrate.measure import Measured, collected, measure
from smartprof.calibrate.plan import Plan
from smartprof.calibrate.schedule import Sweep, Timings
from smartprof.calibrate.visits import Samples, Visit
from smartprof.profile.quality import Repeatability
from smartprof.stats import summarise


@dataclass(frozen=True)
class SweepRecord:
    """What an interrupted run left of one sweep, and the journal in which it goes on.

    complete: a later sweep had begun.
    """

    journal: Journal
    known: Sequence[Visit]
    complete: bool = False


def resumed(journal: Journal, known: Sequence[Visit], sweeps: int) -> list[SweepRecord]:
    """Records of one or two sweeps. known: of the first; the second's journal tells its own."""
    if sweeps == 1:
        return [SweepRecord(journal, known)]
    second = journal.second().read()
    return [SweepRecord(journal, known, bool(second)), SweepRecord(journal.second(), second)]


def measure_sweeps(
    plan: Plan,
    budget_seconds: float,
    timings: Timings,
    records: Sequence[SweepRecord],
    save: Callable[[Journal, Visit], None],
    watch: ClockWatch | None = None,
) -> list[Measured]:
    """Each sweep with a budget and an order of its own; later ones take the points of the first."""
    found: list[Measured] = []
    for seed, record in enumerate(records):
        record.journal.start()
        if record.complete:
            found.append(collected(plan, Sweep(timings, plan, record.known, 0.0)))
            continue
        keep = partial(save, record.journal)
        found.append(measure(plan, budget_seconds, timings, record.known, keep, watch, seed))
        plan = same_points(found[0])
    return found


def same_points(found: Measured) -> Plan:
    """A plan of exactly the points that a sweep has measured."""
    held_out = (*found.first_draw, *found.fresh)
    return replace(found.plan, fitted=tuple(found.fitted), held_out=held_out, fresh=())


def pooled(found: Sequence[Measured]) -> Measured:
    """All samples of every point, those of the first sweep first, each kept for what it was."""
    first = found[0]
    samples: Samples = {}
    for sweep in found:
        for point, values in sweep.samples.items():
            samples.setdefault(point, []).extend(values)
    fitted = dict.fromkeys(y for x in found for y in x.fitted)
    return replace(
        first,
        fitted={x: summarise(samples[x]) for x in fitted},
        first_draw={x: summarise(samples[x]) for x in first.first_draw},
        fresh={x: summarise(samples[x]) for x in first.fresh},
        samples=samples,
        drifts=sum(x.drifts for x in found),
        warnings=list(dict.fromkeys(y for x in found for y in x.warnings)),
    )


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

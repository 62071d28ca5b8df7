"""Times a few points of a profile on the device again, by the sweep's own sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from smartprof.calibrate.plan import Plan
from smartprof.calibrate.run import Calibration, open_bench
from smartprof.calibrate.spots import Recheck, Spot
from smartprof.calibrate.sweep import sampler
from smartprof.stats import summarise

VISITS = 3  # in turns, so that a busy moment does not hit one point alone
VISIT_SECONDS = 0.4
LEAST_SAMPLES, MOST_SAMPLES = 3, 50


def time_spots(calibration: Calibration, spots: Sequence[Spot]) -> list[Recheck]:
    """The points timed anew. calibration: of this device and target; its own plan is not used."""
    points = tuple(x.point for x in spots)
    plan = Plan(calibration.plan.mode, points, (), ())
    bench = open_bench(replace(calibration, plan=plan))
    samples: list[list[float]] = [[] for _ in points]
    for _ in range(VISITS):
        for point, found in zip(points, samples, strict=True):
            sample = sampler(bench, point)
            sample()  # warms up, and captures where passes are captured
            found += _visit(sample)
    return [Recheck(x, summarise(y)) for x, y in zip(spots, samples, strict=True)]


def _visit(sample: Callable[[], float]) -> list[float]:
    found: list[float] = []
    while len(found) < LEAST_SAMPLES or (sum(found) < VISIT_SECONDS and len(found) < MOST_SAMPLES):
        found.append(sample())
    return found

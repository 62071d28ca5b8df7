"""A whole plan, measured on whatever times its points: the sweep, and a second draw if need be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smartprof.calibrate.clocks import ClockWatch
from smartprof.calibrate.fit import fit_surface
from smartprof.calibrate.pace import pace_warnings, spells, steadied
from smartprof.calibrate.plan import Plan, Point
from smartprof.calibrate.quality import error_summary, held_out_points
from smartprof.calibrate.schedule import Sweep, Timings
from smartprof.calibrate.visits import Samples, Visit
from smartprof.profile.schema import Surface
from smartprof.stats import Summary, summarise

MORE_SHAPES = 24  # that a failing draw brings
HELD_OUT_GOALS = 2.0  # mean error of held-out points that fails, in goals of a single point


@dataclass(frozen=True)
class Measured:
    """All that a sweep found: summaries of the points of each kind, and the samples in them.

    first_draw, fresh: held-out points; the second draw is empty unless the first one failed.
    samples: of each point, set right for the device's pace (`pace.py`).
    drifts: spells of another pace. warnings: of the sweep itself.
    """

    plan: Plan
    fitted: dict[Point, Summary]
    first_draw: dict[Point, Summary]
    fresh: dict[Point, Summary]
    samples: Samples
    drifts: int
    warnings: list[str]

    @property
    def held_out(self) -> dict[Point, Summary]:
        """The draw that judges the final fit: no shape was added because of it."""
        return self.fresh or self.first_draw

    def surface(self, quantity: str, source: str = "") -> Surface:
        """The surface through all fitted points of a quantity."""
        points = {
            (x.batch, x.size, x.context): y
            for x, y in self.fitted.items()
            if (x.quantity, x.source) == (quantity, source)
        }
        return fit_surface(quantity, points, self.plan.boundaries if quantity == "verify" else ())


def measure(
    plan: Plan,
    budget_seconds: float,
    timings: Timings,
    known: Sequence[Visit],
    save: Callable[[Visit], None],
    watch: ClockWatch | None = None,
    seed: int = 0,
) -> Measured:
    """Sweep a plan; a failing first draw of held-out points brings more shapes and a second draw.

    known: visits of an interrupted run. save: called after each visit, before the next begins.
    seed: of the order.
    """
    sweep = Sweep(timings, plan, known, budget_seconds, watch, seed)
    for visit in sweep.measure():
        save(visit)
    if plan.fresh and _fails(collected(plan, sweep), timings.goal):
        for visit in sweep.measure_again(MORE_SHAPES):
            save(visit)
    return collected(plan, sweep)


def _fails(found: Measured, goal: float) -> bool:
    """Whether the first held-out draw is further off than its goal."""
    error = error_summary(held_out_points(found.surface("verify"), found.first_draw)).mean_abs_pct
    return error is not None and error > HELD_OUT_GOALS * 100 * goal


def collected(plan: Plan, sweep: Sweep) -> Measured:
    """What a sweep has so far."""
    found, tolerance = sweep.paces(), sweep.tolerance
    steady = steadied(sweep.visits, found, tolerance)
    summaries = {x: summarise(steady[x]) for x in sweep.fitted + sweep.held_out}
    return Measured(
        plan=plan,
        fitted={x: summaries[x] for x in sweep.fitted},
        first_draw={x: summaries[x] for x in plan.held_out},
        fresh={x: summaries[x] for x in plan.fresh if x in summaries},
        samples={x: steady[x] for x in summaries},
        drifts=spells(found, tolerance),
        warnings=pace_warnings(found, tolerance),
    )

"""A whole plan, measured on whatever times its points: the sweep, and a second draw if need be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smartprof.calibrate.clocks import ClockWatch
from smartprof.calibrate.fit import fit_surface
from smartprof.calibrate.plan import Plan, Point
from smartprof.calibrate.quality import error_summary, held_out_points
from smartprof.calibrate.schedule import Sweep, Timings
from smartprof.calibrate.visits import Samples, Visit
from smartprof.profile.quality import HeldOutSet
from smartprof.profile.schema import Surface
from smartprof.stats import Summary, summarise

MORE_SHAPES = 24  # that a failing draw brings
HELD_OUT_GOALS = 2.0  # mean error of held-out points that fails, in goals of a single point


@dataclass(frozen=True)
class Measured:
    """All that a sweep found: summaries of the points of each kind, and the samples that count.

    held_out: the draw that judges the final fit. before_redraw: if that is the second one, the
    first, with the predictions of the fit before it. drifts: how often the device strayed from its
    pace. warnings: of the sweep itself.
    """

    plan: Plan
    fitted: dict[Point, Summary]
    held_out: dict[Point, Summary]
    before_redraw: HeldOutSet | None
    samples: Samples
    drifts: int
    warnings: list[str]

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
    known: Samples,
    save: Callable[[Visit], None],
    watch: ClockWatch | None = None,
) -> Measured:
    """Sweep a plan; a failing first draw of held-out points brings more shapes and a second draw.

    known: samples of an interrupted run. save: called after each visit, before the next begins.
    """
    sweep = Sweep(timings, plan, known, budget_seconds, watch)
    for visit in sweep.measure():
        save(visit)
    first = _collected(sweep, plan.held_out, None)
    judged = held_out_points(first.surface("verify"), first.held_out)
    before = HeldOutSet(errors=error_summary(judged), points=judged)
    if not plan.fresh or not _fails(before, timings.goal):
        return first
    for visit in sweep.measure_again(MORE_SHAPES):
        save(visit)
    return _collected(sweep, plan.fresh, before)


def _fails(found: HeldOutSet, goal: float) -> bool:
    """Whether held-out points are further off than their goal."""
    error = found.errors.mean_abs_pct
    return error is not None and error > HELD_OUT_GOALS * 100 * goal


def _collected(
    sweep: Sweep, held_out: Sequence[Point], before_redraw: HeldOutSet | None
) -> Measured:
    points = sweep.fitted + sweep.held_out
    return Measured(
        plan=sweep.plan,
        fitted={x: summarise(sweep.samples[x]) for x in sweep.fitted},
        held_out={x: summarise(sweep.samples[x]) for x in held_out},
        before_redraw=before_redraw,
        samples={x: sweep.samples[x] for x in points},
        drifts=sweep.pace.drifts,
        warnings=sweep.pace.warnings(),
    )

"""In which order points are timed, how often, and which are added. Knows no device.

Every point gets its first visits in random order (minutes may lie between two visits of one point,
so that drift shows as spread instead of bias); then the curves are refined where it pays; then all
get a further visit, and the widest intervals more, until they are settled or the time is spent. The
sentinel is timed every few visits; visits beside a spell of another pace are made again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from smartprof.calibrate.clocks import ClockWatch
from smartprof.calibrate.drift import FIRST, PaceKeeper
from smartprof.calibrate.plan import Plan, Point
from smartprof.calibrate.refine import next_point
from smartprof.calibrate.stopping import StoppingRule, relative_half_width
from smartprof.calibrate.visits import Samples, Visit, add_visit, totals
from smartprof.stats import Summary, summarise

MIN_SAMPLES = 2  # of a visit; a point gets several visits
MAX_SAMPLES = 200
FIRST_VISITS = 2  # before anything is decided by what they say
VISITS = 3  # of every point, in different orders: one that fell into a busy moment is outvoted
DRAFT_VISITS = 2
VERIFY_SECONDS = 0.12  # of one visit; long passes take what their fewest samples take
DRAFT_SECONDS = 0.03
WARM_SECONDS = 0.04  # before the first visit of a point
SENTINEL_EVERY = 8  # visits
HOT_RETRIES = 3
DOUBTFUL = 0.08  # relative half-width with which a point must not steer
PATIENCE = 0.15  # share of the budget in which another pace is waited out
PACE_TOLERANCE = 4.0  # goals by which the sentinel may stray


class Timings(Protocol):
    """What a sweep asks of a device, a real one or a stand-in.

    goal: relative 95 % half-width at which a point is known well enough.
    warm_again: whether a point must be warmed up anew in every visit.
    """

    goal: float
    warm_again: bool

    def now(self) -> float:
        """Seconds of the clock by which time is budgeted."""

    def sampler(self, point: Point) -> Callable[[], float]:
        """A function that runs the point once and returns the seconds of what is asked for."""


def visit(
    sample: Callable[[], float], now: Callable[[], float], seconds: float, warm_seconds: float
) -> list[float]:
    """Call `sample` (which returns the seconds it measured) after a warm-up, for about `seconds`.

    At least `MIN_SAMPLES` calls, however long they take, and at most `MAX_SAMPLES`. The warm-up
    takes at least one call, unless it has no time at all.
    """
    end = now() + warm_seconds
    warming = warm_seconds > 0
    while warming:
        sample()
        warming = now() < end
    samples: list[float] = []
    end = now() + seconds
    while len(samples) < MIN_SAMPLES or (now() < end and len(samples) < MAX_SAMPLES):
        samples.append(sample())
    return samples


class Sweep:
    """Times the points of a plan. `samples` holds all that counts, at any moment.

    known: visits of an earlier, interrupted run, which count as its own.
    budget_seconds: of all measuring; the held-out points have the share that the mode gives them.
    seed: of the order.
    """

    def __init__(
        self,
        timings: Timings,
        plan: Plan,
        known: Sequence[Visit],
        budget_seconds: float,
        watch: ClockWatch | None = None,
        seed: int = 0,
    ) -> None:
        self.plan, self.goal = plan, timings.goal
        self.samples = totals(known)
        self.pace = PaceKeeper(PACE_TOLERANCE * timings.goal, PATIENCE * budget_seconds)
        self._timings, self._watch = timings, watch
        self._rule = StoppingRule(timings.goal)
        self.fitted = [*plan.fitted, *_added(plan, self.samples)]
        self.held_out = [*plan.held_out, *(x for x in plan.fresh if x in self.samples)]
        self._visits = Counter(x.point for x in known if not x.replaced)
        held_out = budget_seconds * plan.mode.held_out_seconds / plan.mode.budget_seconds
        self._left = {False: budget_seconds - held_out, True: held_out}  # seconds, by held-out
        self._warm: set[Point] = set()
        self._summaries: dict[Point, Summary] = {}
        self._since_sentinel = 0
        self._rng = np.random.default_rng(seed)

    def measure(self) -> Iterator[Visit]:
        """Every visit of a whole sweep, so that the caller can save each before the next begins."""
        if not self._late(self.plan.sentinel):
            for _ in range(FIRST):
                yield from self._keep_pace()
        for wanted in range(1, FIRST_VISITS + 1):
            yield from self._round(wanted)
        yield from self._refine(self.plan.mode.shapes)
        for wanted in range(FIRST_VISITS + 1, VISITS + 1):
            yield from self._round(wanted)
        yield from self._settle()

    def measure_again(self, shapes: int) -> Iterator[Visit]:
        """Refine with so many further shapes, and time the fresh draw of held-out ones."""
        mode = self.plan.mode
        share = shapes / mode.shapes
        self._left[False] += share * (mode.budget_seconds - mode.held_out_seconds)
        self._left[True] += mode.held_out_seconds
        yield from self._refine(len(self.fitted) + shapes)
        self.held_out = list(dict.fromkeys([*self.held_out, *self.plan.fresh]))
        for wanted in range(1, VISITS + 1):
            yield from self._round(wanted)

    def _round(self, wanted: int) -> Iterator[Visit]:
        """Each point until it was visited so often; past the end only those never visited."""
        points = self.fitted + self.held_out
        order = [x for x in points for _ in range(_weight(x))]
        self._rng.shuffle(order)
        for point in order:
            due = min(_weight(point) * wanted, visits_of(point))
            if self._visits[point] < (1 if self._late(point) else due):
                yield from self._visit(point)

    def _refine(self, shapes: int) -> Iterator[Visit]:
        """Add shapes, one at a time, where a curve is least known."""
        while len(self.fitted) < shapes and not self._late(self.plan.sentinel):
            yield from self._clear_doubts()
            summaries = {x: self._summary(x) for x in self.fitted}
            point = next_point(summaries, self.plan.boundaries)
            if point is None or point in self.samples:
                return
            self.fitted.append(point)
            for _ in range(FIRST_VISITS):
                yield from self._visit(point)

    def _clear_doubts(self) -> Iterator[Visit]:
        """Visit again what so few samples contradict each other about that nothing follows."""
        for point in self.fitted:
            if self._late(point) or point.quantity != "verify":
                continue
            for _ in range(VISITS):
                if relative_half_width(self._summary(point)) > DOUBTFUL:
                    yield from self._visit(point)

    def _settle(self) -> Iterator[Visit]:
        """The widest intervals, until every point is settled or the time is spent."""
        for points in (self.held_out, self.fitted):
            widths = {x: self._width(x) for x in points}
            while widths and not self._late(points[0]):
                widest = max(widths, key=lambda x: widths[x])
                if widths[widest] == 0.0:
                    break
                yield from self._visit(widest)
                widths[widest] = self._width(widest)

    def _width(self, point: Point) -> float:
        """Relative half-width; 0 for a settled point."""
        settled = self._rule.settled(self.samples[point])
        return 0.0 if settled else relative_half_width(self._summary(point))

    def _summary(self, point: Point) -> Summary:
        """Worked out again only where samples came."""
        if point not in self._summaries:
            self._summaries[point] = summarise(self.samples[point])
        return self._summaries[point]

    def _late(self, point: Point) -> bool:
        return self._left[point in self.held_out] <= 0

    def _visit(self, point: Point) -> Iterator[Visit]:
        """A visit, and from time to time one of the sentinel and what that asks for."""
        made = self._timed(point, ())
        self.pace.note(made)
        yield made
        self._since_sentinel += 1
        if self._since_sentinel >= SENTINEL_EVERY and not self._late(self.plan.sentinel):
            self._since_sentinel = 0
            yield from self._keep_pace()

    def _keep_pace(self) -> Iterator[Visit]:
        """Time the sentinel, until it is back at the usual pace; then make suspect visits again."""
        while True:
            sentinel = self._timed(self.plan.sentinel, ())
            yield sentinel
            for suspect in self.pace.check(sentinel):
                if self._late(self.plan.sentinel):
                    self.pace.unmade += 1
                    continue
                again = self._timed(suspect.point, suspect.samples)
                self.pace.note(again)
                yield again
            if not self.pace.waiting or self._late(self.plan.sentinel):
                return

    def _timed(self, point: Point, replaced: tuple[float, ...]) -> Visit:
        start = self._timings.now()
        made = Visit(point, tuple(self._cool_samples(point)), replaced)
        # What must be made again is made again for held-out points too, whose own share is short:
        # else they alone would keep the slow moments.
        own_share = point in self.held_out and not replaced
        self._left[own_share] -= self._timings.now() - start
        self._visits[point] += not replaced
        add_visit(self.samples, made)
        self._summaries.pop(point, None)
        return made

    def _cool_samples(self, point: Point) -> list[float]:
        """Samples of one visit; those of a device held down by heat are measured again."""
        for _ in range(HOT_RETRIES):
            found = self._samples(point)
            if self._watch is None or not self._watch.throttled():
                return found
            self._watch.discard()
        return self._samples(point)

    def _samples(self, point: Point) -> list[float]:
        cold = point not in self._warm or self._timings.warm_again
        self._warm.add(point)
        warm_seconds = WARM_SECONDS if cold else 0.0
        sample = self._timings.sampler(point)
        return visit(sample, self._timings.now, visit_seconds(point), warm_seconds)


def _added(plan: Plan, known: Samples) -> list[Point]:
    """Points with which a run that was interrupted has refined the plan's curves.

    Others that it timed belong to a plan made for more memory, and to no curve of this one.
    """
    apart = {*plan.fitted, *plan.held_out, *plan.fresh}
    curves = {(x.batch, x.context) for x in plan.fitted if x.quantity == "verify"}
    return [
        x
        for x in known
        if x.quantity == "verify" and x not in apart and (x.batch, x.context) in curves
    ]


def _weight(point: Point) -> int:
    """Visits per pass over the points; every speedup is a ratio to plain decoding's seconds."""
    return 2 if point.quantity == "plain_decode" else 1


def visits_of(point: Point) -> int:
    """How often a point is visited before the widest intervals get more.

    Drafting is timed hundreds of times in a visit, and setting a visit up costs more.
    """
    return DRAFT_VISITS if point.quantity.startswith("draft") else _weight(point) * VISITS


def visit_seconds(point: Point) -> float:
    """How long one visit goes on, if the fewest samples do not take longer."""
    return DRAFT_SECONDS if point.quantity.startswith("draft") else VERIFY_SECONDS

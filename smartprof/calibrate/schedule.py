"""In which order points are timed, how often, and which are added. Knows no device.

Every point gets its first visits in random order (minutes may lie between two visits of one point,
so that drift shows as spread instead of bias); then the curves are refined where it pays; then the
widest intervals get further visits, until all are settled or the time is spent. The sentinel is
timed every few visits: from it and all others `pace.py` tells how fast the device was.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from smartprof.calibrate.clocks import ClockWatch
from smartprof.calibrate.pace import paces, restless, steadied
from smartprof.calibrate.plan import Plan, Point
from smartprof.calibrate.refine import next_point
from smartprof.calibrate.stopping import StoppingRule, relative_half_width
from smartprof.calibrate.visits import Visit
from smartprof.stats import summarise

MIN_SAMPLES = 1  # of a visit; a point gets several visits
DRAFT_SAMPLES = 3  # the same of drafting, whose seconds scatter more than those of a long pass
MAX_SAMPLES = 200
VISITS = 3  # of every point, in different orders: one that fell into a busy moment is outvoted
DRAFT_VISITS = 2
VERIFY_SECONDS = 0.12  # of one visit; long passes take what their fewest samples take
DRAFT_SECONDS = 0.03
WARM_SECONDS = 0.04  # before the first visit of a point
SENTINEL_EVERY = 8  # visits
SETTLED_AT_ONCE = 8  # of the widest intervals, before all are looked at again
HOT_RETRIES = 3
MOST_VISITS = 8  # of a point that the device is never at its usual pace for
PACE_GOALS = 4.0  # by how many goals of a single point the pace may stray before that matters
DOUBTFUL = 0.08  # relative half-width with which a point must not steer


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
    sample: Callable[[], float],
    now: Callable[[], float],
    seconds: float,
    warm_seconds: float,
    least: int = MIN_SAMPLES,
) -> list[float]:
    """Call `sample` (which returns the seconds it measured) after a warm-up, for about `seconds`.

    At least `least` calls, however long they take, and at most `MAX_SAMPLES`. The warm-up
    takes at least one call, unless it has no time at all; a call that fills the visit by itself is
    no warm-up: what is cold at first is little of it.
    """
    end = now() + warm_seconds
    warming = warm_seconds > 0
    samples: list[float] = []
    while warming:
        taken = sample()
        if taken >= seconds:
            samples.append(taken)
        warming = now() < end and not samples
    end = now() + seconds - sum(samples)
    while len(samples) < least or (now() < end and len(samples) < MAX_SAMPLES):
        samples.append(sample())
    return samples


class Sweep:
    """Times the points of a plan. `visits` holds all that was made, at any moment.

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
        self.tolerance = PACE_GOALS * timings.goal
        self.visits = list(known)
        self._timings, self._watch = timings, watch
        self._rule = StoppingRule(timings.goal)
        self._visits = Counter(x.point for x in known)
        self.fitted = [*plan.fitted, *_added(plan, self._visits)]
        self.held_out = [*plan.held_out, *(x for x in plan.fresh if x in self._visits)]
        held_out = budget_seconds * plan.mode.held_out_seconds / plan.mode.budget_seconds
        self._given = {False: budget_seconds - held_out, True: held_out}  # seconds, by held-out
        self._left = dict(self._given)
        self._warm: set[Point] = set()
        self._since_sentinel = 0
        self._due: list[Point] = []  # for one more visit
        self._rng = np.random.default_rng(seed)

    def measure(self) -> Iterator[Visit]:
        """Every visit of a whole sweep, so that the caller can save each before the next begins."""
        for wanted in range(1, VISITS + 1):
            yield from self._round(wanted)
        yield from self._refine(self.plan.mode.shapes)
        yield from self._settle()

    def measure_again(self, shapes: int) -> Iterator[Visit]:
        """Refine with so many further shapes, and time the fresh draw of held-out ones."""
        mode = self.plan.mode
        share = shapes / mode.shapes
        self._left[False] += share * (mode.budget_seconds - mode.held_out_seconds)
        self._left[True] += mode.held_out_seconds
        yield from self._refine(len(self.fitted) + shapes)
        self.held_out = list(dict.fromkeys([*self.held_out, *self.plan.fresh]))
        yield from self._compare(self.plan.fresh)

    def paces(self) -> NDArray[np.float64]:
        """How fast the device was at each visit so far, see `pace.paces`."""
        return paces(self.visits, self.plan.context_work)

    def _round(self, wanted: int) -> Iterator[Visit]:
        """Each point until it was visited so often; past the end only those never visited."""
        points = self.fitted + self.held_out
        order = [x for x in points for _ in range(_weight(x))]
        self._rng.shuffle(order)
        for point in order:
            due = min(_weight(point) * wanted, visits_of(point))
            if self._visits[point] < (1 if self._late(point) else due):
                yield from self._visit(point)

    def _compare(self, fresh: Sequence[Point]) -> Iterator[Visit]:
        """The visits that fresh points lack, among one more of every fitted pass.

        Both in the same minutes: were fresh points timed by themselves, a device that had changed
        its pace since would make them seem slower or faster than the passes that predict them.
        """
        lacking = [y for x in fresh for y in [x] * (VISITS - self._visits[x])]
        order = lacking + [x for x in self.fitted if x.quantity == "verify"]
        self._rng.shuffle(order)
        for point in order:
            if not self._late(point) or not self._visits[point]:
                yield from self._visit(point)

    def _refine(self, shapes: int) -> Iterator[Visit]:
        """Add shapes, one at a time, where a curve is least known.

        Each in turns with the shape next to it, and once more much later: a pace at which nothing
        but a new shape was timed would seem to be the shape's own.
        """
        while len(self.fitted) < shapes and self._left[False] > 0:
            yield from self._clear_doubts()
            steady = steadied(self.visits, self.paces(), self.tolerance)
            summaries = {x: summarise(steady[x]) for x in self.fitted}
            point = next_point(summaries, self.plan.boundaries)
            if point is None or point in self._visits:
                return
            beside = nearest(point, self.fitted)
            self.fitted.append(point)
            self._due.append(point)
            yield from self._visit(point)
            yield self._timed(beside)
            self._since_sentinel = 0  # it tells the pace as well
            yield from self._visit(point)

    def _clear_doubts(self) -> Iterator[Visit]:
        """Visit again what so few samples contradict each other about that nothing follows."""
        for _ in range(VISITS):
            for point, width in self._widths(self.fitted).items():
                if width > DOUBTFUL and point.quantity == "verify" and not self._late(point):
                    yield from self._visit(point)

    def _settle(self) -> Iterator[Visit]:
        """The widest intervals, until every point is settled or the time is spent.

        Among them, one by one, the shapes that were added: where their last visit contradicts the
        first ones the interval gets wide, and further ones decide.
        Fitted and held-out points in turns, so that the time of both ends together: if the device
        slowly becomes faster, points that are timed longer than others seem to be faster as well.
        """
        while points := [*self._due[:1], *self._unsettled()[:SETTLED_AT_ONCE]]:
            self._due = self._due[1:]
            for point in points:
                if not self._late(point):
                    yield from self._visit(point)

    def _unsettled(self) -> list[Point]:
        """Points that are not settled and have time left, the widest interval first.

        Of fitted and held-out points those of which a larger share of the time is left.
        """
        kinds = {False: self.fitted, True: self.held_out}
        for held_out in sorted(kinds, key=self._spent):
            points = [x for x in kinds[held_out] if not self._late(x)]
            widths = self._widths(points)
            if wide := [x for x in points if widths[x] > 0]:
                return sorted(wide, key=lambda x: -widths[x])
        return []

    def _widths(self, points: Sequence[Point]) -> dict[Point, float]:
        """Relative half-widths; 0 for a settled point.

        Of one that was hardly seen at the usual pace, at least by how much the pace strayed.
        """
        found = self.paces()
        steady = steadied(self.visits, found, self.tolerance)
        strayed = restless(self.visits, found, self.tolerance)
        widths = {}
        for x in points:
            settled = self._rule.settled(steady[x])
            own = 0.0 if settled else relative_half_width(summarise(steady[x]))
            unsteady = strayed.get(x, 0.0) if self._visits[x] < MOST_VISITS else 0.0
            widths[x] = max(own, unsteady)
        return widths

    def _spent(self, held_out: bool) -> float:
        """The share of the time of fitted or held-out points that is spent."""
        given = self._given[held_out]
        return 1 - self._left[held_out] / given if given else 1.0

    def _late(self, point: Point) -> bool:
        return self._left[point in self.held_out] <= 0

    def _visit(self, point: Point) -> Iterator[Visit]:
        """A visit, and from time to time one of the sentinel."""
        yield self._timed(point)
        self._since_sentinel += 1
        if self._since_sentinel >= SENTINEL_EVERY and self._left[False] > 0:
            self._since_sentinel = 0
            yield self._timed(self.plan.sentinel)

    def _timed(self, point: Point) -> Visit:
        start = self._timings.now()
        made = Visit(point, tuple(self._cool_samples(point)))
        self._left[point in self.held_out] -= self._timings.now() - start
        self._visits[point] += 1
        self.visits.append(made)
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
        cold = point not in self._warm or _drafts(point) or self._timings.warm_again
        self._warm.add(point)
        warm_seconds = WARM_SECONDS if cold else 0.0
        sample = self._timings.sampler(point)
        now, least = self._timings.now, least_samples(point)
        return visit(sample, now, visit_seconds(point), warm_seconds, least)


def _added(plan: Plan, known: Iterable[Point]) -> list[Point]:
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


def nearest(point: Point, points: Iterable[Point]) -> Point:
    """The pass of the same curve, among these points, with the next smaller or larger size."""
    curve = (x for x in points if replace(x, size=point.size) == point)
    return min(curve, key=lambda x: abs(math.log(x.size / point.size)))


def _weight(point: Point) -> int:
    """Visits per pass over the points; every speedup is a ratio to plain decoding's seconds."""
    return 2 if point.quantity == "plain_decode" else 1


def visits_of(point: Point) -> int:
    """How often a point is visited before the widest intervals get more.

    Drafting is timed hundreds of times in a visit, and setting a visit up costs more.
    """
    return DRAFT_VISITS if _drafts(point) else _weight(point) * VISITS


def least_samples(point: Point) -> int:
    """How often a visit runs the point at least."""
    return DRAFT_SAMPLES if _drafts(point) else MIN_SAMPLES


def visit_seconds(point: Point) -> float:
    """How long one visit goes on, if the fewest samples do not take longer."""
    return DRAFT_SECONDS if _drafts(point) else VERIFY_SECONDS


def _drafts(point: Point) -> bool:
    return point.quantity.startswith("draft")

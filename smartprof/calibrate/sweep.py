"""What it is to run each kind of point once on the real model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from smartprof.calibrate.contexts import GROWN, longest_context, spread_contexts
from smartprof.calibrate.plan import Plan, Point
from smartprof.calibrate.synthetic import (
    EvenDrafter,
    FlatCosts,
    Unpriced,
    WidenedDrafter,
    heaps,
)
from smartprof.calibrate.timing import synchronise, time_call
from smartprof.calibrate.tree_sizes import skewed_sizes
from smartprof.decode.requests import Progress, Request
from smartprof.decode.rounds import Decoder
from smartprof.decode.target import Target
from smartprof.drafters.base import Drafter
from smartprof.drafters.calibrated import CalibratedDrafter
from smartprof.policies.base import Policy, Round
from smartprof.policies.plain import Plain
from smartprof.policies.smart import Smart, SmartOptions
from smartprof.trees.forest import Forest
from smartprof.trees.packed import pack

TARGET_HALF_WIDTH = {"cpu": 0.02, "cuda": 0.005}
MOST_DRAFTED = 4096  # nodes per request: whatever a round of known size needs
TIMED_STEPS = 2  # the first draft step of a round finds colder caches than the next
# In use every pass is longer than the last, and nothing prepared for one serves the next.
LENGTHENED = range(-GROWN, GROWN + 1)
MOST_GROWN = 64  # tokens by which a request grows while its catch-up is timed over and over


@dataclass(frozen=True)
class Bench:
    """What is measured: the target with its cache, the drafter, and text to draft from."""

    target: Target
    drafter: Drafter
    text: Sequence[int]


class BenchTimings:
    """Times points on a bench, by the machine's own clock."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.goal = TARGET_HALF_WIDTH[bench.target.model.device.type]
        # A captured pass may have been dropped since, so that it is captured anew.
        self.warm_again = bench.target.execution.name == "cuda_graph"

    def now(self) -> float:
        """Seconds of a clock that never goes back."""
        return time.perf_counter()

    def sampler(self, point: Point) -> Callable[[], float]:
        """A function that runs the point once."""
        return sampler(self._bench, point)


def capture(bench: Bench, plan: Plan) -> None:
    """Run every verify pass of the plan once, so that it is captured before time counts."""
    for point in plan.fitted + plan.held_out + plan.fresh:
        if point.quantity == "verify":
            sampler(bench, point)()


def sampler(bench: Bench, point: Point) -> Callable[[], float]:
    """A function that runs the point once and returns the seconds of the part that is asked for."""
    return _SAMPLERS[point.quantity](bench, point)


def _verify(bench: Bench, point: Point) -> Callable[[], float]:
    sizes = skewed_sizes(point.batch, point.size)
    forest = heaps(sizes, bench.target.model.shape.vocab)
    trees = pack(forest, np.arange(point.batch, forest.size))
    spread = spread_contexts(point.batch, point.context)
    lengths = cycle([np.maximum(spread + x, 1) for x in LENGTHENED])
    target = bench.target

    def sample() -> float:
        context_lens = next(lengths)
        return time_call(
            lambda: target.verify(trees, context_lens, point.size), target.model.device
        )

    return sample


def _cold(bench: Bench) -> Callable[[], float]:
    """A pass of the target, as before all drafting: no cache keeps what the draft needs."""
    return _verify(bench, Point("verify", 1, 1, 1))


def _plain_decode(bench: Bench, point: Point) -> Callable[[], float]:
    def sample() -> float:
        decoder = _seated(bench, EvenDrafter(point.size), Plain(), point, Unpriced())
        decoder.round()  # the first round after a change of shape also pays for the change
        return decoder.round().seconds

    return sample


def _round_overhead(bench: Bench, point: Point) -> Callable[[], float]:
    """Deciding, learning and bookkeeping of a round that verifies all that was drafted."""
    policy = Smart(SmartOptions(depth=1, limit=MOST_DRAFTED, most=max(2, point.size)))
    drafter = CalibratedDrafter(EvenDrafter(point.size))

    def sample() -> float:
        record = _seated(bench, drafter, policy, point, FlatCosts()).round()
        return record.seconds - record.draft_seconds - record.verify_seconds

    return sample


def _seated(
    bench: Bench, drafter: Drafter, policy: Policy, point: Point, costs: Unpriced
) -> Decoder:
    """A decoder whose rows hold requests of the point's mean context, without a prefill."""
    decoder = Decoder(bench.target, drafter, policy, costs, frozenset())
    longest = tuple(islice(cycle(bench.text), longest_context(point.batch, point.context)))
    for row, length in enumerate(spread_contexts(point.batch, point.context).tolist()):
        request = Request("calibration", "calibration", "calibration", longest[:length], 64)
        decoder.rows.append(Progress(request, row))
    return decoder


class _DraftRounds:
    """Rounds of drafting, each after a pass of the target that leaves no draft's data in caches."""

    def __init__(self, bench: Bench, point: Point, drafter: Drafter, committed: int) -> None:
        """committed: tokens that every round's catch-up takes in."""
        self._bench, self._point, self._drafter = bench, point, drafter
        self._shares = [len(x) for x in np.array_split(np.arange(committed), point.batch)]
        self._cool = _cold(bench)
        self._text = cycle(bench.text)
        self._grown = MOST_GROWN  # tokens since the requests were seated
        self._policy = Smart()

    def begin(self) -> Forest:
        """The roots of the next round, of which nothing is drafted yet."""
        self._grown += max(self._shares)
        if self._grown > MOST_GROWN:
            self._seat()
            self._grown = max(self._shares)
        news = [list(islice(self._text, x)) for x in self._shares]
        for row, tokens in enumerate(news):
            self._drafter.commit(row, tokens)
        self._cool()
        return Forest.roots(np.array([x[-1] for x in news]))

    def expand(self, forest: Forest, nodes: NDArray[np.int64]) -> _Expansion:
        """One draft step, and the decision about the next that every step brings with it."""
        device = self._bench.target.model.device
        synchronise(device)
        start = time.perf_counter()
        grown = forest.extend(nodes, self._drafter.expand(forest, nodes))
        self._policy.grow(self._state(grown))
        synchronise(device)
        return _Expansion(grown, time.perf_counter() - start)

    def _state(self, forest: Forest) -> Round:
        batch = self._point.batch
        return Round(
            forest=forest,
            context_lens=spread_contexts(batch, self._point.context),
            room=np.full(batch, MOST_DRAFTED),
            costs=FlatCosts(),
            plain_seconds=1.0,
            drafted_seconds=0.0,
        )

    def _seat(self) -> None:
        """Requests of the point's mean context in all rows."""
        bench, point = self._bench, self._point
        bench.drafter.begin(point.source)
        for row, length in enumerate(spread_contexts(point.batch, point.context).tolist()):
            bench.drafter.seat(row, list(islice(cycle(bench.text), length)))


def _draft_catchup(bench: Bench, point: Point) -> Callable[[], float]:
    rounds = _DraftRounds(bench, point, CalibratedDrafter(bench.drafter), point.size)

    def sample() -> float:
        forest = rounds.begin()
        return rounds.expand(forest, forest.frontier).seconds

    return sample


def _draft_step(bench: Bench, point: Point) -> Callable[[], float]:
    text = [*bench.text, *range(bench.target.model.shape.vocab)]
    drafter = CalibratedDrafter(WidenedDrafter(bench.drafter, point.size, text))
    rounds = _DraftRounds(bench, point, drafter, point.batch)

    def sample() -> float:
        roots = rounds.begin()
        forest = roots.extend(roots.frontier, drafter.expand(roots, roots.frontier))
        seconds: list[float] = []
        while len(seconds) < TIMED_STEPS and (not seconds or len(forest.frontier) >= point.size):
            step = rounds.expand(forest, forest.frontier[: point.size])
            forest = step.forest
            seconds.append(step.seconds)
        return statistics.mean(seconds)

    return sample


@dataclass(frozen=True)
class _Expansion:
    """A forest after a draft step, and the seconds of that step."""

    forest: Forest
    seconds: float


_SAMPLERS: dict[str, Callable[[Bench, Point], Callable[[], float]]] = {
    "verify": _verify,
    "plain_decode": _plain_decode,
    "round_overhead": _round_overhead,
    "draft_step": _draft_step,
    "draft_catchup": _draft_catchup,
}

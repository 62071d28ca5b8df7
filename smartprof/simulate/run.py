"""Policies simulated side by side: requests drawn from a world, rounds run by the decoder's loop.

Seconds are the profile's throughout, so lanes need not take turns. Only rounds with a full batch
count, as in decoding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from smartprof.decode.domain import require_domain
from smartprof.decode.records import RoundRecord
from smartprof.decode.requests import Request
from smartprof.decode.rounds import Decoder
from smartprof.decode.run import Lane, LaneResult, run_lanes
from smartprof.errors import DomainError, InputError
from smartprof.policies.base import Policy
from smartprof.policies.plain import Plain
from smartprof.policies.table import make_policy
from smartprof.profile.cost import Costs
from smartprof.simulate.at_context import AtContext
from smartprof.simulate.oracle import STATIC_GRID, Oracle
from smartprof.simulate.world import SimulatedDrafter, SimulatedTarget, World

PLAIN, ORACLE, ORACLE_STATIC = "plain", "oracle", "oracle-static"
MIXED = "mixed"
MOST_MISSING = 0.05  # share of a policy's expansions that a trace may lack


@dataclass(frozen=True)
class Study:
    """What is simulated: policies by their text, batch sizes, contexts, and the seed of the queue.

    contexts: tokens per request that are charged for; None: as many as the requests have.
    """

    policies: Sequence[str]
    batches: Sequence[int]
    contexts: Sequence[int | None] = (None,)
    seed: int = 0


@dataclass(frozen=True)
class SimulatedLane:
    """One policy at one batch size and context.

    result: its rounds, whose seconds are the modelled ones. missing: share of its expansions that
    were not recorded. setting: which fixed setting `oracle-static` is; None for other policies.
    """

    result: LaneResult
    context: int | None
    missing: float
    setting: str | None = None

    @property
    def rate(self) -> float:
        """Committed tokens per modelled second."""
        records = self.result.records
        tokens = sum(int(x.committed.sum()) for x in records)
        return tokens / sum(x.modelled_seconds for x in records)


def simulate(world: World, costs: Costs, study: Study) -> Iterator[SimulatedLane]:
    """Every policy at every batch and context; plain decoding always runs along as the reference.

    Raises before anything runs: InputError for an unknown policy, DomainError for a batch, context
    or tree beyond the profile. Raises InputError where more than `MOST_MISSING` of a policy's
    expansions are not in the trace: what it would have drafted there is not known, and never
    guessed.
    """
    labels = list(dict.fromkeys([PLAIN, *study.policies]))
    runs = [_Run(world, _charged(costs, x), y, x, study.seed) for x, y in _places(study)]
    for run in runs:
        for label in labels:
            run.require_domain(label)
    for run in runs:
        for label in labels:
            yield run.lane(label)


def _places(study: Study) -> list[tuple[int | None, int]]:
    return list(product(dict.fromkeys(study.contexts), dict.fromkeys(study.batches)))


def _charged(costs: Costs, context: int | None) -> Costs:
    return costs if context is None else AtContext(costs, context)


class _Run:
    """All policies at one batch size and context."""

    def __init__(
        self, world: World, costs: Costs, batch: int, context: int | None, seed: int
    ) -> None:
        self.world, self.costs, self.batch = world, costs, batch
        self.context, self.seed = context, seed
        self._known: dict[str, SimulatedLane] = {}

    def require_domain(self, label: str) -> None:
        """Raise for what the profile cannot price. The grid of `oracle-static` leaves it out."""
        policy = Plain() if label in (ORACLE, ORACLE_STATIC) else make_policy(label)
        if not policy.calibrated:
            raise InputError(
                f"policy {label}: expected one that goes by a trace's probabilities, which are "
                "calibrated: compare it in `smartprof decode`"
            )
        longest = max(len(x.tokens) + x.max_new_tokens for x in self.world.requests)
        require_domain(self.costs, policy, self.batch, longest, self.world.sources)

    def lane(self, label: str) -> SimulatedLane:
        """The run of one policy; InputError where too much of it is not in the trace."""
        lane = self._best_fixed() if label == ORACLE_STATIC else self._simulated(label)
        if lane.missing > MOST_MISSING:
            raise InputError(
                f"policy {label} at batch {self.batch}: {100 * lane.missing:.1f} % of the "
                f"expansions it asked for are not in the trace, expected at most "
                f"{100 * MOST_MISSING:.0f} %: record it with a larger --trace-width and "
                "--trace-depth, or give the policy smaller bounds"
            )
        return lane

    def _best_fixed(self) -> SimulatedLane:
        """The fastest setting of the grid among those that profile and trace have."""
        lanes = [self._simulated(x) for x in STATIC_GRID if self._priced(x)]
        best = max((x for x in lanes if x.missing <= MOST_MISSING), key=lambda x: x.rate)
        return replace(
            best, result=replace(best.result, policy=ORACLE_STATIC), setting=best.result.policy
        )

    def _priced(self, label: str) -> bool:
        try:
            self.require_domain(label)
        except DomainError:
            return False
        return True

    def _simulated(self, label: str) -> SimulatedLane:
        if label not in self._known:
            self._known[label] = self._run(label)
        return self._known[label]

    def _run(self, label: str) -> SimulatedLane:
        target = SimulatedTarget(self.world)
        drafter = self.world.drafter(target)
        policy = _policy(label, drafter)
        decoder = Decoder(target, drafter, policy, self.costs, frozenset())
        queue = drawn(self.world.requests, self.batch, self.seed)
        lane = Lane(label, decoder, self.batch, queue)
        run_lanes([lane], lambda _: None)
        result = LaneResult(
            policy=label,
            drafter=drafter.name,
            batch=self.batch,
            split="+".join(sorted({x.request.split for x in lane.finished})),
            category=MIXED,
            records=[by_the_profile(x) for x in lane.counted],
            outputs=lane.finished,
            equality=None,
            prefill_seconds=0.0,
        )
        return SimulatedLane(result, self.context, drafter.missing / max(1, drafter.asked))


def _policy(label: str, drafter: SimulatedDrafter) -> Policy:
    return Oracle(drafter) if label == ORACLE else make_policy(label)


def drawn(requests: Sequence[Request], batch: int, seed: int) -> deque[tuple[int, Request]]:
    """A queue of all requests, shuffled anew each time through, at least three times the batch."""
    rng = np.random.default_rng((seed, batch))
    count = max(len(requests), 3 * batch if batch > 1 else 1)
    passes = -(-count // len(requests))
    order = np.concatenate([rng.permutation(len(requests)) for _ in range(passes)])
    return deque(enumerate(requests[x] for x in order[:count].tolist()))


def by_the_profile(record: RoundRecord) -> RoundRecord:
    """The same round with its modelled seconds in the place of wall clock."""
    return replace(
        record,
        seconds=record.modelled_seconds,
        draft_seconds=record.modelled_draft_seconds,
        verify_seconds=record.modelled_verify_seconds,
    )

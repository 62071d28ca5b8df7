"""Decoding the tiny model, recording it, and replaying the recording, round by round."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from smartprof.decode.record import Recorder, TraceSize
from smartprof.decode.records import RoundRecord
from smartprof.decode.requests import Request
from smartprof.decode.rounds import Decoder
from smartprof.decode.run import Lane, run_lanes
from smartprof.decode.target import Target
from smartprof.decode.verifier import Verifier
from smartprof.drafters.base import Drafter
from smartprof.drafters.evidence import EvidenceTable
from smartprof.drafters.ngram import NgramDrafter
from smartprof.policies.base import Cut, Offer, Outcome, Policy, Round
from smartprof.policies.table import make_policy
from smartprof.simulate.replay import RecordedWorld
from smartprof.simulate.world import SimulatedTarget
from smartprof.trees.forest import Children, Forest
from smartprof.trees.recording import Facts, Recording
from tests.costs import TableCosts, line
from tests.tiny_decoding import CAPACITY, TINY, OracleDrafter, loud_model

COSTS = TableCosts(line(1.0, 0.01), line(0.01, 0.001), 0.02)
FACTS = Facts("tiny", "test", "test", "greedy", "random prompts", 16, 16, "")
WIDE = TraceSize(16, 16)
CLOCK = {"seconds", "draft_seconds", "verify_seconds"}


def frozen_ngram() -> NgramDrafter:
    """One that learns nothing."""
    evidence = EvidenceTable()
    evidence.freeze()
    return NgramDrafter(evidence=evidence)


class FixedOracle(OracleDrafter):
    """Proposals that are a function of prompt, position and path, nothing else."""

    name = "model"

    def __init__(self, truth: dict[tuple[int, ...], list[int]]) -> None:
        super().__init__(truth, 0)
        self._noted: dict[int, int] = {}

    def pending(self, source: str) -> int:
        return sum(self._noted.values())

    def admit(self, row: int, tokens: Sequence[int]) -> None:
        super().admit(row, tokens)
        self._noted[row] = 1  # as a network that has yet to take in the root

    def commit(self, row: int, tokens: Sequence[int]) -> None:
        super().commit(row, tokens)
        self._noted[row] += len(tokens)

    def release(self, row: int) -> None:
        super().release(row)
        del self._noted[row]

    def move(self, source: int, target: int) -> None:
        super().move(source, target)
        self._noted[target] = self._noted.pop(source)

    def expand(self, forest: Forest, nodes: NDArray[np.int64]) -> Children:
        found = [self._below(forest, x) for x in nodes.tolist()]
        for root in nodes[nodes < forest.num_requests].tolist():
            self._noted[root] = 0
        return Children(*(np.concatenate(x) for x in zip(*found, strict=True)))

    def _below(self, forest: Forest, node: int) -> tuple[Any, Any, Any]:
        prompt, output = self.rows[int(forest.request[node])]
        path, above = [], node
        while above >= forest.num_requests:
            path.append(int(forest.token[above]))
            above = int(forest.parent[above])
        rng = np.random.default_rng(crc32(repr((prompt, len(output), path)).encode()))
        place = len(output) + int(forest.depth[node])
        future = self.truth[prompt][place : place + 1] if rng.random() < 0.8 else []
        wrong = [x for x in rng.permutation(TINY.vocab)[:2].tolist() if x not in future]
        token = rng.permutation(np.array(wrong + future, np.int64))
        probability = rng.uniform(0.05, 0.33, len(token))
        return np.full(len(token), node, np.int32), token, probability


class TwoSources(Drafter):
    """A lookup alone, or a stand-in for a network alone; asked for an outlook, the lookup looks."""

    name = digest = "both"
    kind = "test"

    def __init__(self, truth: dict[tuple[int, ...], list[int]]) -> None:
        self.parts = {"ngram": frozen_ngram(), "both": FixedOracle(truth)}
        self.source = "both"

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(self.parts)

    def begin(self, source: str) -> None:
        self.source = source

    def outlook(self) -> float:
        return self.parts["ngram"].outlook()

    def pending(self, source: str) -> int:
        return self.parts[source].pending(source)

    def admit(self, row: int, tokens: Sequence[int]) -> None:
        for part in self.parts.values():
            part.admit(row, tokens)

    def commit(self, row: int, tokens: Sequence[int]) -> None:
        for part in self.parts.values():
            part.commit(row, tokens)

    def release(self, row: int) -> None:
        for part in self.parts.values():
            part.release(row)

    def move(self, source: int, target: int) -> None:
        for part in self.parts.values():
            part.move(source, target)

    def expand(self, forest: Forest, nodes: NDArray[np.int64]) -> Children:
        found = self.parts["ngram"].expand(forest, nodes)  # the lookup always runs along
        return found if self.source == "ngram" else self.parts["both"].expand(forest, nodes)


class Watched(Policy):
    """Another policy, and every state in which it cut."""

    name = "watched"

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy
        self.seen: list[tuple[Round, Cut]] = []

    def most_nodes(self, batch: int) -> int | None:
        return self.policy.most_nodes(batch)

    def choose(self, round: Round, offers: Sequence[Offer], outlook: Callable[[], float]) -> Offer:
        return self.policy.choose(round, offers, outlook)

    def grow(self, round: Round) -> NDArray[np.int64]:
        return self.policy.grow(round)

    def cut(self, round: Round) -> Cut:
        self.seen.append((round, self.policy.cut(round)))
        return self.seen[-1][1]

    def observe(self, outcome: Outcome) -> None:
        self.policy.observe(outcome)


@dataclass(frozen=True)
class Played:
    """A lane that has run, and what its policy saw."""

    lane: Lane
    seen: list[tuple[Round, Cut]]
    missing: int

    @property
    def accepted(self) -> int:
        return sum(int(x.accepted.sum()) for x in self.lane.counted)


def played(
    target: Verifier,
    drafter: Drafter,
    policy: str,
    requests: Sequence[Request],
    batch: int,
    eos: frozenset[int] = frozenset(),
) -> Played:
    watched = Watched(make_policy(policy))
    decoder = Decoder(target, drafter, watched, COSTS, eos)
    lane = Lane(policy, decoder, batch, deque(enumerate(requests)))
    run_lanes([lane], lambda _: None)
    return Played(lane, watched.seen, getattr(drafter, "missing", 0))


def really(
    drafter: Drafter,
    policy: str,
    requests: Sequence[Request],
    batch: int,
    eos: frozenset[int] = frozenset(),
) -> Played:
    """By the tiny model."""
    target = Target(loud_model(), batch, CAPACITY, drafter.taps)
    return played(target, drafter, policy, requests, batch, eos)


def replayed(recording: Recording, policy: str, batch: int) -> Played:
    """By the recording."""
    world = RecordedWorld(recording)
    target = SimulatedTarget(world)
    return played(target, world.drafter(target), policy, world.requests, batch)


def recorded(
    drafter: Drafter,
    requests: Sequence[Request],
    batch: int = 3,
    size: TraceSize = WIDE,
    eos: frozenset[int] = frozenset(),
) -> Recording:
    target = Target(loud_model(), batch, CAPACITY, drafter.taps)
    recorder = Recorder(target, drafter, COSTS, eos, size)
    lane = Lane("record", recorder, batch, deque(enumerate(requests)))
    run_lanes([lane], lambda _: None)
    recording = recorder.recording(lane.finished, FACTS)
    recording.validate("made by a test")
    return recording


def first_difference(real: Played, other: Played) -> str | None:
    """Where two runs part, in words; None: nowhere, to the last bit."""
    for number, ((a, cut), (b, other_cut)) in enumerate(zip(real.seen, other.seen, strict=False)):
        batch = a.batch
        pairs = [
            (cut.nodes, other_cut.nodes),
            (cut.pad_to, other_cut.pad_to),
            (a.source, b.source),
            (a.noted, b.noted),
            (a.forest.token[batch:], b.forest.token[batch:]),
            *((getattr(a.forest, x), getattr(b.forest, x)) for x in TREE),
            *((getattr(a, x), getattr(b, x)) for x in ("context_lens", "room", "drafted_seconds")),
        ]
        if not all(np.array_equal(x, y) for x, y in pairs):
            return f"tree of round {number}"
    records = zip(real.lane.counted, other.lane.counted, strict=False)
    for number, (x, y) in enumerate(records):
        for field in (x.name for x in fields(RoundRecord) if x.name not in CLOCK):
            if not np.array_equal(getattr(x, field), getattr(y, field)):
                return f"{field} of counted round {number}"
    lengths = [(len(x.seen), len(x.lane.counted)) for x in (real, other)]
    return None if lengths[0] == lengths[1] else f"rounds: {lengths}"


TREE = ("request", "parent", "depth", "path_prob", "expanded")

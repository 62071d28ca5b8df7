"""Any drafter with its probabilities calibrated: learned from what followed, or taken from a file.

Its own corrections stay: what is calibrated here is what it states after them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smartprof.drafters.base import Drafter
from smartprof.drafters.drafted_round import DraftedRound
from smartprof.policies.base import Outcome
from smartprof.trees.acceptance import Calibration, Labelled, Proposals
from smartprof.trees.forest import Children, Forest
from smartprof.trees.reliability import NO_EVENTS, AcceptanceRecord, Reliability, SourceRecord

if TYPE_CHECKING:
    from smartprof.models.cache import KVCache


class CalibratedDrafter(Drafter):
    """Proposes what `inner` proposes; each source has a calibration of its own.

    Proposals of a round are judged when its source drafts the next time, by all tokens committed
    in between, and the source's calibration is updated unless it is frozen.
    """

    def __init__(
        self,
        inner: Drafter,
        start: Mapping[str, Calibration] | None = None,
        keep_labels: bool = False,
    ) -> None:
        """start: calibrations by source; of others, what the drafter states.

        keep_labels: for `record`; they grow with every round.
        """
        self.inner, self._keep_labels, self._frozen = inner, keep_labels, False
        self.name, self.digest, self.kind = inner.name, inner.digest, inner.kind
        self.taps = inner.taps
        self.calibrations = {x: Calibration.identity() for x in inner.sources} | dict(start or {})
        self._labels: dict[str, list[Labelled]] = {x: [] for x in inner.sources}
        self._selected = dict.fromkeys(inner.sources, NO_EVENTS)
        self._source = inner.sources[-1]
        self._rounds: dict[str, DraftedRound] = {}  # the last of each source, not yet judged

    @property
    def sources(self) -> tuple[str, ...]:
        """Those of the drafter."""
        return self.inner.sources

    @property
    def caches(self) -> tuple[KVCache, ...]:
        """Those of the drafter."""
        return self.inner.caches

    def begin(self, source: str) -> None:
        """What this round is drafted, and calibrated, with."""
        self._source = source
        self.inner.begin(source)

    def outlook(self) -> float:
        """The drafter's, as it states it."""
        return self.inner.outlook()

    def pending(self, source: str) -> int:
        """The drafter's."""
        return self.inner.pending(source)

    def part(self, source: str) -> Drafter:
        """The drafter's."""
        return self.inner.part(source)

    def attach(self, cache: KVCache) -> None:
        """For the drafter."""
        self.inner.attach(cache)

    def seat(self, row: int, tokens: Sequence[int]) -> None:
        """As the drafter does."""
        self.inner.seat(row, tokens)

    def admit(self, row: int, tokens: Sequence[int]) -> None:
        """As the drafter does; nothing was proposed for the request yet."""
        self.inner.admit(row, tokens)

    def commit(self, row: int, tokens: Sequence[int]) -> None:
        """Also what the last rounds drafted are judged by."""
        for drafted in self._rounds.values():
            drafted.follow(row, tokens)
        self.inner.commit(row, tokens)

    def release(self, row: int) -> None:
        """What was proposed for the request is still judged."""
        for drafted in self._rounds.values():
            drafted.release(row)
        self.inner.release(row)

    def move(self, source: int, target: int) -> None:
        """The request keeps its place in the rounds that are to be judged."""
        for drafted in self._rounds.values():
            drafted.move(source, target)
        self.inner.move(source, target)

    def expand(self, forest: Forest, nodes: NDArray[np.int64]) -> Children:
        """The drafter's children, calibrated."""
        if forest.size == forest.num_requests:  # a new round
            self._judge(self._source)
            self._rounds[self._source] = DraftedRound(forest.num_requests)
        stated = self.inner.expand(forest, nodes)
        self._rounds[self._source].note(forest, stated)
        depth = forest.depth[stated.parent] + 1
        proposals, order = Proposals.sort(stated.parent, stated.conditional, depth)
        conditional = np.empty_like(stated.conditional)
        conditional[order] = self.calibrations[self._source].calibrated(proposals)
        return Children(stated.parent, stated.token, conditional)

    def learn(self, outcome: Outcome) -> None:
        """Record how the path probabilities of the verified nodes held."""
        nodes = outcome.cut.nodes
        found = Reliability.of(outcome.forest.path_prob[nodes], outcome.accepted[nodes])
        self._selected[self._source] += found
        self.inner.learn(outcome)

    def freeze(self) -> None:
        """Keep all calibrations, and what the drafter learns by itself."""
        self._frozen = True
        self.inner.freeze()

    def uncalibrate(self) -> None:
        """Pass on what the drafter states; whether that held is still recorded."""
        self.calibrations = {x: Calibration.identity() for x in self.sources}
        self._frozen = True

    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """Those of the drafter."""
        return self.inner.statistics()

    def recall(self, statistics: Mapping[str, NDArray[np.float64]]) -> None:
        """Those of the drafter."""
        self.inner.recall(statistics)

    def record(self) -> AcceptanceRecord:
        """Of all sources, with their last rounds judged by what followed until now."""
        for source in self.sources:
            self._judge(source)
        sources = {
            x: SourceRecord(Labelled.joined(self._labels[x]), self._selected[x])
            for x in self.sources
        }
        return AcceptanceRecord(sources, self.statistics())

    def _judge(self, source: str) -> None:
        """Learn from the last round of a source, once."""
        drafted = self._rounds.pop(source, None)
        if drafted is None:
            return
        seen = drafted.labelled()
        if not self._frozen:
            self.calibrations[source] = self.calibrations[source].updated(seen)
        if self._keep_labels:
            self._labels[source].append(seen)

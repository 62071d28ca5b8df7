"""`smart` with one of its ideas taken out, to see what each is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from smartprof.policies.allocation import Allocation, Ranked, allocate, allocate_to_first_drop
from smartprof.policies.base import Round
from smartprof.policies.options import one_of
from smartprof.policies.ranking import rank_within
from smartprof.policies.smart import Smart, SmartOptions

if TYPE_CHECKING:
    from smartprof.profile.envelope import Envelope

FIXED_DEPTH = 5  # layers, EAGLE-2's
BEAM = 8  # nodes expanded per layer and request


@dataclass(frozen=True)
class SmartWithoutOptions(SmartOptions):
    """Those of `smart`, and what is taken out."""

    part: str = one_of(
        "joint", ("exact", "calibration", "depth", "fallback"), "the idea that is taken out"
    )


class SmartWithout(Smart):
    """An ablation of `smart`.

    joint: every request chooses the tree that would be best if all others had as many nodes.
    exact: nodes are added, best first, until the objective falls for the first time.
    calibration: the drafter's probabilities are taken as it states them; in decoding only.
    depth: drafts a beam of `BEAM` nodes per layer and request to `FIXED_DEPTH`, unpriced.
    fallback: drafts in every round, whether that pays or not.
    """

    name: ClassVar[str] = "smart-without"
    paper: ClassVar[str] = "ours, after SMART, arXiv 2604.09731"
    summary: ClassVar[str] = "an ablation: smart without one of its ideas"
    options_type = SmartWithoutOptions
    options: SmartWithoutOptions

    def __init__(self, options: SmartWithoutOptions | None = None) -> None:
        super().__init__(options)
        self.calibrated = self.options.part != "calibration"

    def _grow_roots(self, round: Round) -> NDArray[np.int64]:
        chosen = super()._grow_roots(round)
        return (round.room > 1).nonzero()[0] if self.options.part == "fallback" else chosen

    def _expanded(self, round: Round, leaves: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.options.part != "depth":
            return super()._expanded(round, leaves)
        forest = round.forest
        newest = leaves[forest.depth[leaves] == forest.depth.max()]
        request, masses = forest.request[newest], forest.path_prob[newest]
        return newest[(rank_within(request, masses) < BEAM) & (forest.depth[newest] < FIXED_DEPTH)]

    def _allocation(self, round: Round) -> Allocation:
        envelope, theta = self._priced(round).envelope, self._theta(round)
        if self.options.part == "exact":
            ranked = self._ranked(round)
            return allocate_to_first_drop(ranked, envelope.seconds, envelope.pad_to, theta)
        if self.options.part == "joint":
            return _each_alone(round, self._ranked(round), envelope, theta)
        return super()._allocation(round)


def _each_alone(round: Round, ranked: Ranked, envelope: Envelope, theta: float) -> Allocation:
    """Each request's own best tree, if the others had as many nodes."""
    batch = round.batch
    share = envelope.seconds[::batch] / batch  # of 0, 1, ... nodes each
    request = round.forest.request[ranked.node]
    chosen = np.zeros(len(ranked.node), np.bool_)
    for row in range(batch):
        own = (request == row).nonzero()[0][: len(share) - 1]
        alone = allocate(Ranked(own, ranked.worth[own]), share, np.arange(len(share)), theta)
        chosen[alone.nodes] = True
    count, worth = int(chosen.sum()), ranked.worth[chosen]
    value = float(worth.sum() - theta * envelope.seconds[count])
    return Allocation(ranked.node[chosen], worth, int(envelope.pad_to[count]), value)

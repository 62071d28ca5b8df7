"""`smart` with one of its ideas taken out, to see what each is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from smartprof.policies.allocation import Allocation, allocate, allocate_to_first_drop
from smartprof.policies.base import Round
from smartprof.policies.options import one_of
from smartprof.policies.ranking import rank_within
from smartprof.policies.smart import Smart, SmartOptions

FIXED_DEPTH = 5  # layers, EAGLE-2's
BEAM = 8  # nodes expanded per layer and request


@dataclass(frozen=True)
class SmartWithoutOptions(SmartOptions):
    """Those of `smart`, and what is taken out."""

    part: str = one_of("joint", ("exact", "depth", "fallback"), "the idea that is taken out")


class SmartWithout(Smart):
    """An ablation of `smart`.

    joint: every request chooses the tree that would be best if all others had as many nodes.
    exact: nodes are added, best first, until the objective falls for the first time.
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

    def _allocation(self, round: Round) -> tuple[NDArray[np.int64], Allocation]:
        part = self.options.part
        if part not in ("joint", "exact"):
            return super()._allocation(round)
        ranked, theta = self._ranked(round), self._theta(round)
        envelope, masses = self._priced(round).envelope, round.forest.path_prob[ranked]
        if part == "exact":
            return ranked, allocate_to_first_drop(masses, envelope.seconds, envelope.pad_to, theta)
        rank = rank_within(round.forest.request[ranked], masses)
        chosen = (
            rank < _own_counts(round, ranked, envelope.seconds, theta)[round.forest.request[ranked]]
        )
        count = int(chosen.sum())
        order = np.concatenate([ranked[chosen], ranked[~chosen]])
        value = float(masses[chosen].sum() - theta * envelope.seconds[count])
        return order, Allocation(count, int(envelope.pad_to[count]), value)


def _own_counts(
    round: Round, ranked: NDArray[np.int64], seconds: NDArray[np.float64], theta: float
) -> NDArray[np.int64]:
    """int64 [B]: nodes of each request's own best tree, when the others have as many.

    ranked: nodes by falling path probability. seconds: [> 0] of verifying 0, 1, ... nodes in all.
    """
    batch, counts = round.batch, []
    share = seconds[::batch] / batch  # of 0, 1, ... nodes each
    for request in range(batch):
        own = round.forest.path_prob[ranked[round.forest.request[ranked] == request]]
        own = own[: len(share) - 1]
        counts.append(allocate(own, share, np.arange(len(share)), theta).count)
    return np.array(counts)

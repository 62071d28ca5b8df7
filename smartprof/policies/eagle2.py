"""EAGLE-2's dynamic draft trees: a beam by path probability, then the best nodes of all layers.

Li, Wei, Zhang and Zhang, "EAGLE-2: Faster Inference of Language Models with Dynamic Draft Trees",
arXiv 2406.16858, section 4: expansion phase (4.1) and reranking phase (4.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from smartprof.policies.base import NO_NODES, Cut, Policy, Round
from smartprof.policies.options import whole
from smartprof.policies.ranking import rank_within


@dataclass(frozen=True)
class Eagle2Options:
    """Size and shape of each request's tree; the same for every request and batch."""

    m: int = whole(16, 1, 512, "verified nodes per request")
    depth: int = whole(4, 1, 64, "layers below the root")
    k: int = whole(8, 1, 64, "nodes expanded per layer")


class Eagle2(Policy):
    """Expands the k most probable nodes of the newest layer, verifies the m best of all layers."""

    name: ClassVar[str] = "eagle2"
    options_type = Eagle2Options
    options: Eagle2Options

    @property
    def most_nodes(self) -> int:
        """As the options say."""
        return self.options.m

    def grow(self, round: Round) -> NDArray[np.int64]:
        """Each request's k most probable nodes of the newest layer; empty at full depth."""
        forest = round.forest
        layer = (forest.depth == forest.depth.max()).nonzero()[0]
        if forest.expanded[layer].any():  # the last step proposed nothing: no newer layer came
            return NO_NODES
        request = forest.request[layer]
        wanted = rank_within(request, forest.path_prob[layer]) < self.options.k
        useful = forest.depth[layer] < round.reach(self.options.depth)[request]
        return layer[wanted & useful]

    def cut(self, round: Round) -> Cut:
        """Each request's m most probable nodes.

        Prefix-closed: a child is never more probable than its parent, and ties go to the earlier
        node, which is the parent.
        """
        forest = round.forest
        request, depth = forest.request[round.batch :], forest.depth[round.batch :]
        useful = (depth <= round.reach(self.options.depth)[request]).nonzero()[0]
        rank = rank_within(request[useful], forest.path_prob[round.batch :][useful])
        nodes = useful[rank < self.options.m] + round.batch
        return Cut(nodes, round.batch + len(nodes))

"""The beam that EAGLE-2 drafts with and its choice of the best nodes, for rules that share it.

Li, Wei, Zhang and Zhang, "EAGLE-2: Faster Inference of Language Models with Dynamic Draft Trees",
arXiv 2406.16858, section 4: expansion phase (4.1) and reranking phase (4.2).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smartprof.policies.base import NO_NODES, Cut, Policy, Round
from smartprof.policies.options import whole
from smartprof.policies.ranking import rank_within


def layers(default: int) -> Any:
    """The option `depth`."""
    return whole(default, 1, 64, "layers below the root")


def beam_width(default: int) -> Any:
    """The option `k`."""
    return whole(default, 1, 64, "nodes expanded per layer")


class Beam(Policy):
    """Expands the k most probable nodes of the newest layer, verifies the best of all layers.

    A subclass has the options `depth` and `k`, and says in `most_nodes` how many nodes of each
    request are verified; nothing is drafted where that is none.
    """

    @abstractmethod
    def most_nodes(self, batch: int) -> int:
        """Nodes verified per request beside its root."""

    def most_rows(self, batch: int, most_tokens: int) -> int:
        """The k nodes of each request in every layer but the last, where anything is verified."""
        drafts = self.options.depth > 1 and self.most_nodes(batch) > 0
        return batch * self.options.k if drafts else 0

    def grow(self, round: Round) -> NDArray[np.int64]:
        """Each request's k most probable nodes of the newest layer; empty at full depth."""
        forest = round.forest
        if not self.most_nodes(round.batch):
            return NO_NODES
        layer = (forest.depth == forest.depth.max()).nonzero()[0]
        if forest.expanded[layer].any():  # the last step proposed nothing: no newer layer came
            return NO_NODES
        request = forest.request[layer]
        wanted = rank_within(request, forest.path_prob[layer]) < self.options.k
        useful = forest.depth[layer] < round.reach(self.options.depth)[request]
        return layer[wanted & useful]

    def cut(self, round: Round) -> Cut:
        """Each request's most probable nodes.

        Prefix-closed: a child is never more probable than its parent, and ties go to the earlier
        node, which is the parent.
        """
        forest = round.forest
        request, depth = forest.request[round.batch :], forest.depth[round.batch :]
        useful = (depth <= round.reach(self.options.depth)[request]).nonzero()[0]
        rank = rank_within(request[useful], forest.path_prob[round.batch :][useful])
        nodes = useful[rank < self.most_nodes(round.batch)] + round.batch
        return Cut(nodes, round.batch + len(nodes))

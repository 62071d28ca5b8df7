"""The arithmetic of `smart-paper`: which drafted nodes pass SMART's published test.

"SMART: When is it Actually Worth Expanding a Speculative Tree?", arXiv 2604.09731; the equations
are in `smart_paper`. Plain functions of forests and fitted costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smartprof.policies.exponential import ExponentialCost
from smartprof.policies.ranking import before_within, rank_within
from smartprof.trees.forest import Forest

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class PaperCosts:
    """Seconds of drafting per node of each request's tree (lambda), and of verifying."""

    draft_slope: float
    verify: ExponentialCost

    def total(self, tokens: Floats, drafted: Floats) -> Floats:
        """C_spec for trees of `tokens`, of which `drafted` are charged for drafting."""
        return self.draft_slope * drafted + self.verify.seconds(tokens)

    def marginal(self, tokens: Floats) -> Floats:
        """dC_spec for trees of `tokens`."""
        return self.draft_slope + self.verify.slope(tokens)


@dataclass(frozen=True)
class Reading:
    """alpha, and how the details that the paper leaves open are read."""

    alpha: float
    root_counts: bool  # as 1 in the length of every path
    paths_after: bool  # |P| of a node's benefit counts the path that it adds
    draft_root: bool  # drafting is charged for the root as well


def kept_nodes(
    forest: Forest, candidate: Bools, share: int, costs: PaperCosts, reading: Reading
) -> Bools:
    """The roots and the nodes that stay: bool [n].

    candidate: bool [n], nodes that may stay if their parents do. share: most nodes of each request
    beside its root.
    """
    trees = _Trees(forest, costs, reading)
    for depth in range(1, int(forest.depth.max()) + 1):
        layer = ((forest.depth == depth) & candidate).nonzero()[0]
        trees.add(layer[trees.kept[forest.parent[layer]]], share)
    return trees.kept


class _Trees:
    """The trees of all requests while they grow.

    kept, parents: bool [n], nodes in the tree, and those with a child in it. sums: float64 [n], of
    f from the root down. nodes, paths, lengths: float64 [B], per request the nodes beside the root,
    the root-to-leaf paths, and the sum over these of the sums of their leaves.
    """

    def __init__(self, forest: Forest, costs: PaperCosts, reading: Reading) -> None:
        batch = forest.num_requests
        self.forest, self.costs, self.reading = forest, costs, reading
        self.kept, self.parents = np.zeros((2, forest.size), np.bool_)
        self.sums = np.zeros(forest.size)
        self.kept[:batch], self.sums[:batch] = True, float(reading.root_counts)
        self.nodes, self.paths, self.lengths = (
            np.zeros(batch),
            np.ones(batch),
            self.sums[:batch].copy(),
        )

    def add(self, layer: Ints, share: int) -> None:
        """Try a layer's nodes, children of kept ones, from the most probable to the least.

        A node that fails leaves the tree as it was. So the tree that a node is tried on is known
        without a loop up to the first failure of its request, and where all nodes are tested alike
        every later one fails as well. They are not alike where |P| counts the added path: then
        those behind a failure are tried again.
        """
        forest = self.forest
        self.sums[layer] = self.sums[forest.parent[layer]] + forest.path_prob[layer]
        waiting = layer[np.lexsort((-forest.path_prob[layer], forest.request[layer]))]
        while waiting.size:
            passes = self._insert_up_to_failure(waiting, share)
            behind = before_within(forest.request[waiting], (~passes).astype(np.float64)) > 0
            waiting = waiting[behind & self.reading.paths_after]

    def _insert_up_to_failure(self, nodes: Ints, share: int) -> Bools:
        """Insert each request's nodes before its first failure.

        Answers bool [k] whether each node passes on the tree of all before it.
        """
        forest, request = self.forest, self.forest.request[nodes]
        parent, benefit = forest.parent[nodes], forest.path_prob[nodes]
        # a parent's first child extends its path, every further one adds a path of its own
        further = self.parents[parent] | (rank_within(parent, benefit) > 0)
        one, adds_path = np.ones(len(nodes)), further.astype(np.float64)
        adds_length = np.where(further, self.sums[nodes], benefit)
        size = self.nodes[request] + before_within(request, one)
        paths = self.paths[request] + before_within(request, adds_path)
        lengths = self.lengths[request] + before_within(request, adds_length)
        shared = paths + adds_path if self.reading.paths_after else paths
        passes = self._passes(benefit / shared, lengths / paths, size) & (size < share)
        stays = before_within(request, (~passes).astype(np.float64)) + ~passes == 0
        self.kept[nodes[stays]] = self.parents[parent[stays]] = True
        batch, whose = forest.num_requests, request[stays]
        self.nodes = self.nodes + np.bincount(whose, one[stays], batch)
        self.paths = self.paths + np.bincount(whose, adds_path[stays], batch)
        self.lengths = self.lengths + np.bincount(whose, adds_length[stays], batch)
        return passes

    def _passes(self, benefit: Floats, length: Floats, nodes: Floats) -> Bools:
        """The published test: bool [k].

        benefit: f / |P|. length: L. nodes: of the tree, beside the root; float64 [k] each.
        """
        tokens = 1.0 + nodes
        drafted = tokens if self.reading.draft_root else nodes
        gained = self.reading.alpha * benefit * self.costs.total(tokens, drafted)
        passes: Bools = gained > length * self.costs.marginal(tokens)
        return passes

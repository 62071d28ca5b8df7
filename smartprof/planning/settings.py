"""A fixed way to speculate, the tree it drafts, and the tokens that tree is expected to bring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Setting:
    """What a server is told: how many layers to draft, how wide, and how much to verify.

    depth: layers below the root, 0 for no speculation. top_k: nodes expanded per layer and children
    taken of each; 1 is a chain. nodes: verified per request beside the root.
    """

    depth: int
    top_k: int
    nodes: int

    def __str__(self) -> str:
        """As tables show it."""
        if not self.depth:
            return "off"
        if self.top_k == 1:
            return f"chain {self.nodes}"
        return f"tree depth {self.depth}, top-k {self.top_k}, {self.nodes} nodes"


OFF = Setting(0, 0, 0)


@dataclass(frozen=True, eq=False)
class DraftTree:
    """Drafted nodes of one request, in the order in which they are taken for the verify pass.

    parent: int64 [n], index of a node that comes before, -1 for the root. depth: int64 [n], from 1.
    rank: int64 [n], from 0 for the most probable child of its parent.
    """

    parent: NDArray[np.int64]
    depth: NDArray[np.int64]
    rank: NDArray[np.int64]

    def path_probs(self, rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 [..., n]: probability that each node is accepted.

        rates: float64 [..., depths, ranks], conditional; the last depth's hold below.
        """
        row = np.minimum(self.depth, rates.shape[-2]) - 1
        found = rates[..., row, self.rank].copy()
        for node, parent in enumerate(self.parent):
            if parent >= 0:
                found[..., node] *= found[..., parent]
        return found


NO_TREE = DraftTree(*(np.zeros(0, np.int64) for _ in range(3)))


@dataclass(frozen=True, eq=False)
class Candidate:
    """A setting with what pricing it needs.

    rows: nodes that one request expands in each draft step after the first, which is the catch-up.
    tree: its first `setting.nodes` nodes are verified. expected: tokens that a request commits per
    round, the target's own included.
    """

    setting: Setting
    rows: tuple[int, ...]
    tree: DraftTree
    expected: float

    def expected_under(self, rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 [...]: expected tokens under other rates [..., depths, ranks], same tree."""
        nodes = slice(self.setting.nodes)
        tree = DraftTree(self.tree.parent[nodes], self.tree.depth[nodes], self.tree.rank[nodes])
        found: NDArray[np.float64] = 1.0 + tree.path_probs(rates).sum(axis=-1)
        return found


PLAIN = Candidate(OFF, (), NO_TREE, 1.0)

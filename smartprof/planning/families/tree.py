"""EAGLE-2's trees as a server is told them: steps, top-k, and tokens to verify.

Li et al., "EAGLE-2", arXiv 2406.16858. A beam: the root's top-k children, then in each step the k
nodes of the newest layer with the largest path probability, top-k children of each; of all drafted
nodes the best are verified. With positional acceptance every request's tree is the same. A drafter
whose confidence tells good positions from bad ones does better than that: expected tokens of trees
are on the low side.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from smartprof.planning.acceptance import Acceptance
from smartprof.planning.families.base import Bounds, Family
from smartprof.planning.settings import Candidate, DraftTree, Setting

WIDEST = 10  # EAGLE's own k


class Tree(Family):
    """Depth, top-k and size; chains are those of top-k 1."""

    name: ClassVar[str] = "tree"
    summary: ClassVar[str] = "depth, top-k and size of EAGLE-2's tree, chains among them"

    def _settings(self, acceptance: Acceptance, bounds: Bounds) -> list[Candidate]:
        table = acceptance.positional.table
        return [
            y
            for top_k in range(1, min(table.shape[1], WIDEST) + 1)
            for depth in range(1, bounds.depth + 1)
            for y in _of_shape(table, depth, top_k, bounds.nodes)
        ]


def _of_shape(table: NDArray[np.float64], depth: int, top_k: int, nodes: int) -> list[Candidate]:
    """Of all sizes that verify a node of the last layer, and for top-k above 1 a second branch.

    Smaller sizes verify what a setting of fewer layers or of top-k 1 drafts with less.
    """
    drafted, rows = beam(table, depth, top_k)
    tree, probs = _by_probability(drafted, table)
    expected = 1.0 + probs.cumsum()
    useful = (np.maximum.accumulate(tree.depth) == depth) & (
        np.maximum.accumulate(tree.rank) >= min(top_k - 1, 1)
    )
    return [
        Candidate(Setting(depth, top_k, x), rows, tree, float(expected[x - 1]))
        for x in (1 + useful[:nodes].nonzero()[0]).tolist()
    ]


def _by_probability(
    drafted: DraftTree, table: NDArray[np.float64]
) -> tuple[DraftTree, NDArray[np.float64]]:
    """The most probable first, parents before children, who are no more probable; and how much."""
    probs = drafted.path_probs(table)
    order = np.argsort(-probs, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    above = drafted.parent[order]
    parent = np.where(above >= 0, place[above], -1)
    return DraftTree(parent, drafted.depth[order], drafted.rank[order]), probs[order]


def beam(table: NDArray[np.float64], depth: int, top_k: int) -> tuple[DraftTree, tuple[int, ...]]:
    """All nodes that are drafted, layer by layer, and how many are expanded in each later step."""
    parents, depths, ranks = [-1] * top_k, [1] * top_k, list(range(top_k))
    probs = table[0, :top_k].tolist()
    layer, rows = list(range(top_k)), []
    for level in range(2, depth + 1):
        rates = table[min(level, len(table)) - 1, :top_k]
        expanded = sorted(layer, key=lambda x: -probs[x])[:top_k]
        rows.append(len(expanded))
        layer = list(range(len(parents), len(parents) + len(expanded) * top_k))
        for parent in expanded:
            parents += [parent] * top_k
            depths += [level] * top_k
            ranks += range(top_k)
            probs += (probs[parent] * rates).tolist()
    found = DraftTree(*(np.array(x, np.int64) for x in (parents, depths, ranks)))
    return found, tuple(rows)

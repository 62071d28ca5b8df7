"""A fixed tree for every request and round: drawn by hand, or found from measured costs.

Chen et al., "Sequoia: Scalable, Robust, and Hardware-aware Speculative Decoding",
arXiv 2402.12374. Medusa (arXiv 2401.10774) and EAGLE (arXiv 2401.15077) verify fixed trees as
well. A found tree maximises expected tokens per second of a round::

    V(tree) / (catch-up + draft steps + verify + overhead)

with V from positional acceptance and the seconds of the profile (see `tree_search`), the tree of
no nodes included, which is plain decoding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from smartprof.policies.base import Cut, Policy, Round
from smartprof.policies.options import KIND, Kind, whole
from smartprof.policies.ranking import rank_within
from smartprof.policies.round_prices import round_prices
from smartprof.policies.tree_search import best_trees, fastest_tree
from smartprof.trees.forest import Forest
from smartprof.trees.positional import PositionalAcceptance
from smartprof.trees.shape import MOST_NODES, TreeShape

DRAWN = TreeShape.parse("4/2+1/1+1")
TREE = Kind(
    "tree",
    f"children per place, layer by layer, at most {MOST_NODES} nodes",
    "the tree; 3/2+1 is a root with three children, the first two with two and one",
    TreeShape.parse,
)
ACCEPT = Kind(
    "rates",
    "from 0 to 1, ranks joined by + and depths by /",
    "positional acceptance; the tree is then found by it and the profile",
    PositionalAcceptance.parse,
)


@dataclass(frozen=True)
class StaticOptions:
    """The tree, or the acceptance that it is found by and the bounds of that search."""

    tree: TreeShape = field(default=DRAWN, metadata={KIND: TREE})
    accept: PositionalAcceptance | None = field(default=None, metadata={KIND: ACCEPT})
    size: int = whole(64, 1, MOST_NODES, "most nodes of a found tree")
    depth: int = whole(8, 1, 64, "most layers of a found tree")

    def __post_init__(self) -> None:
        """Raise ValueError for a tree that is both given and to be found."""
        if self.accept is not None and self.tree is not DRAWN:
            raise ValueError("expected tree or accept, got both")


class Static(Policy):
    """Drafts and verifies the same tree always.

    A found tree is found once for each batch size and drafter, at the mean context of the first
    round of that kind, and stays.
    """

    name: ClassVar[str] = "static"
    paper: ClassVar[str] = "Sequoia, arXiv 2402.12374"
    summary: ClassVar[str] = "one tree for all rounds, given, or the best for stated acceptance"
    options_type = StaticOptions
    options: StaticOptions

    def __init__(self, options: StaticOptions | None = None) -> None:
        super().__init__(options)
        self.reset()

    def reset(self) -> None:
        """Find trees anew."""
        self._found: dict[tuple[int, str], TreeShape] = {}

    def most_nodes(self, batch: int) -> int | None:
        """Of a given tree; a found one stays within what was measured."""
        return self.options.tree.size if self.options.accept is None else None

    def most_rows(self, batch: int, most_tokens: int) -> int:
        """Of the widest layer that has children; a tree is found by all widths that it may have."""
        if self.options.accept is None:
            return batch * max(self.options.tree.expanded[1:], default=0)
        tokens = self._most_tokens(batch, most_tokens)
        return batch * tokens if tokens > 1 else 0

    def grow(self, round: Round) -> NDArray[np.int64]:
        """Nodes on places that have children, layer by layer."""
        forest, shape = round.forest, self._shape(round)
        place = places(forest, shape)
        inner = (place >= 0) & (shape.children[place] > 0) & ~forest.expanded
        useful = forest.depth < round.reach(shape.depth)[forest.request]
        return (inner & useful).nonzero()[0]

    def cut(self, round: Round) -> Cut:
        """All nodes that have a place in the tree."""
        forest, shape = round.forest, self._shape(round)
        useful = forest.depth <= round.reach(shape.depth)[forest.request]
        nodes = ((places(forest, shape) > 0) & useful).nonzero()[0]
        return Cut(nodes, round.batch + len(nodes))

    def _shape(self, round: Round) -> TreeShape:
        accept, kind = self.options.accept, (round.batch, round.source)
        if accept is None:
            return self.options.tree
        if kind not in self._found:
            self._found[kind] = self._find(accept, round)
        return self._found[kind]

    def _find(self, accept: PositionalAcceptance, round: Round) -> TreeShape:
        tokens = self._most_tokens(round.batch, round.costs.most_tokens)
        if tokens < 2:  # the batch alone fills the longest pass that was measured
            return TreeShape(())
        trees = best_trees(accept.table, self.options.depth, tokens)
        prices = round_prices(
            round.costs,
            round.batch,
            round.context,
            plain_seconds=round.plain_seconds,
            tokens=tokens,
            rows=tokens,
            depth=self.options.depth,
        )
        return fastest_tree(trees, prices).shape

    def _most_tokens(self, batch: int, most_tokens: int) -> int:
        """Of one request's found tree, root included."""
        return min(1 + self.options.size, most_tokens // batch)


def places(forest: Forest, shape: TreeShape) -> NDArray[np.int64]:
    """int64 [n]: each node's place in the tree, 0 for roots, -1 for nodes without one.

    A node has a place if its parent has and it is among the most probable children, as many as that
    place has.
    """
    rank = rank_within(forest.parent, forest.path_prob)
    place = np.full(forest.size, -1)
    place[: forest.num_requests] = 0
    for depth in range(1, int(forest.depth.max()) + 1):
        layer = (forest.depth == depth).nonzero()[0]
        above = place[forest.parent[layer]]
        has = (above >= 0) & (rank[layer] < shape.children[above])
        place[layer[has]] = (shape.first_child[above] + rank[layer])[has]
    return place

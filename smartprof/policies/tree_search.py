"""The best fixed tree, by dynamic programming over size, depth and branching.

Chen et al., "Sequoia: Scalable, Robust, and Hardware-aware Speculative Decoding",
arXiv 2402.12374: the tree (section 3.1) from positional acceptance, its size and depth (section
3.3) from what passes cost. Pure arithmetic; knows neither profiles nor policies.

The recursion. A node at depth e that is the root of a subtree of n nodes (itself included) and at
most h further layers is expected to bring, given that it is accepted, itself and what its children
bring::

    V(e, h, n) = 1 + max over n_1 + ... + n_c = n - 1, all n_i >= 1, of
                     sum over i of p(e + 1, i) * V(e + 1, h - 1, n_i)

where p(d, i) is the probability that the i-th most probable child, at depth d, is accepted given
that its parent is. Children are added rank by rank, so a node has the first ranks. With
verification by the target's own tokens siblings are exclusive events, which makes the sum exact.
V(0, D, n) counts the root as 1, for the token that the target adds, so it is the expected number of
tokens that a round commits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smartprof.trees.shape import TreeShape

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Table:
    """Subtrees below a node of one depth with one most height.

    value: float64 [N + 1], V by number of nodes; -inf where no such subtree exists.
    given: int64 [K, N], nodes that the i-th child gets where children i, i + 1, ... share m nodes.
    """

    value: Floats
    given: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class BestTrees:
    """For every size and most depth the tree that commits the most tokens.

    expected: float64 [D + 1, N + 1], tokens that a round commits with a tree of n tokens, root
    included, and at most d layers below the root; -inf where there is no such tree.
    """

    expected: Floats
    _tables: list[list[_Table]]  # by height, then by depth of the subtree's root

    def tree(self, depth: int, tokens: int) -> TreeShape:
        """The tree of this many tokens, root included, and at most this depth.

        Raises ValueError where there is none.
        """
        if not np.isfinite(self.expected[depth, tokens]):
            raise ValueError(f"expected a tree that exists, got {tokens} tokens in {depth} layers")
        layers, sizes = [], np.array([tokens])
        for level in range(depth):
            tables = self._tables[depth - level]
            given = _shared(tables[min(level, len(tables) - 1)], sizes - 1)
            layers.append((given > 0).sum(axis=1).tolist())
            sizes = given[given > 0]
        return TreeShape.of(layers)


@dataclass(frozen=True, eq=False)
class Parts:
    """Seconds of n rounds, each float64 [n]: the catch-up, the draft steps after it, the rest."""

    catchup: Floats
    steps: Floats
    verify: Floats

    @property
    def total(self) -> Floats:
        """Of the whole rounds."""
        return self.catchup + self.steps + self.verify


@dataclass(frozen=True, eq=False)
class RoundSeconds:
    """Prices of a round in which every request has the same tree, by what one request has.

    verify: float64 [N + 1], by tokens of the tree, root included; all of a round but drafting. The
    entry for one token is a plain round; that for none is not looked at.
    step: float64 [N + 1], of a draft step by nodes expanded; for none not looked at.
    catchup: float64 [D + 2], of the first draft step by tokens committed in the round before; for
    none not looked at.
    """

    verify: Floats
    step: Floats
    catchup: Floats

    def of(self, shape: TreeShape, expected: float) -> float:
        """Seconds of a round with this tree that commits so many tokens."""
        if not shape.size:
            return float(self.verify[1])
        rows = np.array([shape.expanded[1:]], np.int64)
        parts = self.parts(rows, np.array([1 + shape.size]), np.array([expected]))
        return float(parts.total[0])

    def parts(self, rows: NDArray[np.int64], tokens: NDArray[np.int64], expected: Floats) -> Parts:
        """Seconds of n rounds that draft, apart.

        rows: int64 [n, steps], nodes expanded in each step after the first, 0 for none. tokens:
        int64 [n], of the trees, roots included. expected: float64 [n], tokens committed.
        """
        steps = np.where(rows > 0, self.step[rows], 0.0).sum(axis=1)
        return Parts(self._first_step(expected), steps, self.verify[tokens])

    def least(self, expected: Floats) -> Floats:
        """float64 [D, N - 1]: no round with a tree of depth 1 ... D and 2 ... N tokens is cheaper.

        expected: of the same shape.
        """
        depth = np.arange(len(expected))[:, None]  # steps after the first
        finite = np.where(np.isfinite(expected), expected, 1.0)
        return depth * self.step[1:].min() + self.verify[2:] + self._first_step(finite)

    def _first_step(self, expected: Floats | float) -> Floats:
        committed = np.arange(1, len(self.catchup))
        return np.asarray(np.interp(expected, committed, self.catchup[1:]))


@dataclass(frozen=True)
class FoundTree:
    """A tree, the tokens that each request is expected to commit in a round, and its seconds."""

    shape: TreeShape
    expected: float
    seconds: float


def best_trees(rates: Floats, depth: int, tokens: int) -> BestTrees:
    """The tree of the most expected tokens for every size up to `tokens` and depth up to `depth`.

    rates: float64 [R, K] from 0 to 1, acceptance by depth (from 1) and rank; the last row holds for
    all deeper nodes. K bounds the branching. Needs time of order depth * R * K * tokens ** 2.
    """
    tables = [[_leaf(tokens, rates.shape[1])] * min(len(rates), depth + 1)]
    for height in range(1, depth + 1):
        below = tables[-1]
        tables.append(
            [
                _table(rates[level], below[min(level + 1, len(below) - 1)])
                for level in range(min(len(rates), depth - height + 1))
            ]
        )
    return BestTrees(np.stack([x[0].value for x in tables]), tables)


def fastest_tree(trees: BestTrees, prices: RoundSeconds) -> FoundTree:
    """The tree of the most expected tokens per second among `trees` and the root alone.

    Every tree is priced by the widths of its own draft steps. It is the best of all trees if a
    step's seconds do not depend on its width and taking in one more token costs less than a round
    does per token. Where wide steps cost more, a tree of equal size and depth with fewer expected
    tokens and narrower steps may be missed.
    """
    best = FoundTree(TreeShape(()), 1.0, float(prices.verify[1]))
    expected = trees.expected[1:, 2:]
    bound = expected / prices.least(expected)
    order = np.argsort(-bound, axis=None, kind="stable")
    for depth, tokens in zip(*np.unravel_index(order, bound.shape), strict=True):
        if bound[depth, tokens] <= best.expected / best.seconds:
            break  # all others are bounded by less
        shape, value = trees.tree(depth + 1, tokens + 2), float(expected[depth, tokens])
        seconds = prices.of(shape, value)
        if value / seconds > best.expected / best.seconds:
            best = FoundTree(shape, value, seconds)
    return best


def _leaf(tokens: int, ranks: int) -> _Table:
    """A node without children."""
    value = np.full(tokens + 1, -np.inf)
    value[1] = 1.0
    return _Table(value, np.zeros((ranks, tokens), np.int64))


def _table(rates: Floats, below: _Table) -> _Table:
    """Subtrees whose root's children are accepted at `rates` [K] and are roots in `below`."""
    tokens = len(below.value) - 1
    shared = np.arange(tokens)
    left = np.maximum(shared[:, None] - shared, -1)  # [m, s]: m shared, s given; -1: too many
    rest = np.append(np.full(tokens, -np.inf), -np.inf)  # by what later children share
    rest[0] = 0.0
    given = np.zeros((len(rates), tokens), np.int64)
    exists = np.isfinite(below.value[:-1])
    for rank in reversed(range(len(rates))):
        gain = np.full(tokens, -np.inf)
        gain[exists] = rates[rank] * below.value[:-1][exists]
        total = gain + rest[left]
        given[rank] = total.argmax(axis=1)
        rest[:-1] = total.max(axis=1)
        rest[0], given[rank, 0] = 0.0, 0
    return _Table(np.concatenate([[-np.inf], 1.0 + rest[:-1]]), given)


def _shared(table: _Table, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 [n, K]: what each child gets where the children of a node share `sizes` [n] nodes."""
    given = np.zeros((len(sizes), len(table.given)), np.int64)
    left = sizes.copy()
    for rank, row in enumerate(table.given):
        given[:, rank] = row[left]
        left -= given[:, rank]
    return given

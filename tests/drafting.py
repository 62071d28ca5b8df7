"""Rounds without a model: what a policy asks for when drafts come from a function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from smartprof.policies.base import Policy, Round
from smartprof.trees.forest import Children, Forest
from tests.costs import TableCosts

# Forest and node -> conditionals of its children.
Propose = Callable[[Forest, int], list[float]]


def make_round(
    forest: Forest, room: np.ndarray, costs: TableCosts, plain_seconds: float = 1.0
) -> Round:
    """At 100 committed tokens per request."""
    lens = np.full(forest.num_requests, 100)
    return Round(forest, lens, room, costs, plain_seconds, 0.0)


def expand(forest: Forest, nodes: np.ndarray, propose: Propose) -> Forest:
    """One draft step; a node's children carry tokens 0, 1, ..."""
    parent, token, conditional = [], [], []
    for node in nodes.tolist():
        found = propose(forest, node)
        parent += [node] * len(found)
        token += range(len(found))
        conditional += found
    return forest.extend(nodes, Children.checked(parent, token, conditional))


def random_propose(rng: np.random.Generator) -> Propose:
    """Up to four children each, in no order."""

    def propose(forest: Forest, node: int) -> list[float]:
        count = int(rng.integers(0, 5))
        shares = rng.dirichlet(np.ones(count + 1))[:count] if count else np.zeros(0)
        return [max(float(x), 1e-6) for x in shares]

    return propose


def always(*conditionals: float) -> Propose:
    """The same children below every node."""
    return lambda forest, node: list(conditionals)


def draft(
    policy: Policy, batch: int, room: np.ndarray, costs: TableCosts, propose: Propose
) -> list[tuple[Round, np.ndarray]]:
    """Every state a policy saw in one round with what it asked for, down to its stopping."""
    forest, seen = Forest.roots(np.arange(batch)), []
    while True:
        round = make_round(forest, room, costs)
        nodes = policy.grow(round)
        seen.append((round, nodes))
        if nodes.size == 0:
            return seen
        forest = expand(forest, nodes, propose)

"""Random forests for tests, and slow, obvious answers about them."""

from __future__ import annotations

import numpy as np

from smartprof.trees.forest import Children, Forest


def random_forest(
    rng: np.random.Generator, batch: int, nodes: int, most_children: int = 3, vocab: int = 6
) -> Forest:
    """At most `nodes` nodes beside the roots; some nodes expanded without children."""
    forest = Forest.roots(rng.integers(0, vocab, batch))
    while forest.frontier.size and forest.size < batch + nodes:
        node = rng.choice(forest.frontier)
        count = min(int(rng.integers(0, most_children + 1)), batch + nodes - forest.size)
        shares = rng.dirichlet(np.ones(count + 1))[:count] if count else np.zeros(0)
        tokens = rng.permutation(vocab)[:count]
        forest = forest.extend(
            np.array([node]), Children.checked([node] * count, tokens, np.clip(shares, 1e-6, 1))
        )
    return forest


def ancestors(forest: Forest, node: int) -> list[int]:
    """From the root's child down to the node itself; empty for a root."""
    if node < forest.num_requests:
        return []
    return [*ancestors(forest, int(forest.parent[node])), node]


def random_choice(rng: np.random.Generator, forest: Forest, wanted: int) -> np.ndarray:
    """A random prefix-closed choice of non-root nodes, shuffled."""
    chosen: set[int] = set()
    for node in rng.permutation(np.arange(forest.num_requests, forest.size))[:wanted]:
        chosen.update(ancestors(forest, int(node)))
    return rng.permutation(np.array(sorted(chosen), np.int64))


def closed_selections(forest: Forest, usable: np.ndarray) -> np.ndarray:
    """Every prefix-closed selection of usable non-root nodes: bool [selections, nodes].

    usable: bool over the non-root nodes.
    """
    batch = forest.num_requests
    count = forest.size - batch
    bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1 == 1
    valid = ~(bits & ~usable).any(axis=1)
    for node in range(count):
        parent = int(forest.parent[batch + node]) - batch
        if parent >= 0:
            valid &= ~bits[:, node] | bits[:, parent]
    return bits[valid]


def path_tokens(forest: Forest, node: int) -> list[int]:
    """Tokens from below the root down to a node."""
    tokens: list[int] = []
    while node >= forest.num_requests:
        tokens.insert(0, int(forest.token[node]))
        node = int(forest.parent[node])
    return tokens

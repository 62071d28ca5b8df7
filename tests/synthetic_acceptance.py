"""A target and a drafter whose true acceptance is known, decoded round by round without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from smartprof.drafters.base import Drafter
from smartprof.policies.base import Outcome, Policy, Round
from smartprof.trees.forest import Children, Forest
from tests.costs import TableCosts

WIDTH = 4  # children of every node; the token of a child is its place
NONE = WIDTH  # the target's token where none of the children is right
LENGTH = 4096  # positions after which a text begins again

Stated = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def honest(truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """States true probabilities [k, WIDTH]."""
    return truth


def overconfident(truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probabilities times 0.6, divided by their sum where that exceeds 1."""
    stated = truth**0.6
    return stated / np.maximum(1.0, stated.sum(axis=1, keepdims=True))


class World:
    """Texts of B requests: at each position the true chances of the children, and which is right.

    chances: float64 [B, LENGTH, WIDTH]. target: int64 [B, LENGTH].
    """

    def __init__(self, batch: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        sure = rng.uniform(0.3, 3.0, (batch, LENGTH, 1))
        shape = np.concatenate(
            [sure, np.full((batch, LENGTH, WIDTH - 1), 0.4), rng.uniform(0.3, 2.0, sure.shape)], 2
        )
        drawn = rng.gamma(shape)
        shares = drawn / drawn.sum(axis=2, keepdims=True)
        self.chances = np.maximum(shares[:, :, :WIDTH] * 0.999, 1e-5)
        edges = self.chances.cumsum(axis=2)
        self.target = (rng.random(sure.shape) > edges).sum(axis=2)


class SyntheticDrafter(Drafter):
    """States, by some rule, the true chances on the target's path and another position's off it."""

    name = digest = "synthetic"
    kind = "test"

    def __init__(self, world: World, stated: Stated) -> None:
        self.world, self.stated = world, stated
        self.position = np.zeros(len(world.target), np.int64)  # of the next token of each row
        self._on_path = np.zeros(0, np.bool_)

    def admit(self, row: int, tokens: Sequence[int]) -> None:
        self.position[row] = 0

    def commit(self, row: int, tokens: Sequence[int]) -> None:
        self.position[row] += len(tokens)

    def release(self, row: int) -> None:
        pass

    def move(self, source: int, target: int) -> None:
        raise NotImplementedError

    def expand(self, forest: Forest, nodes: NDArray[np.int64]) -> Children:
        if forest.size == forest.num_requests:
            self._on_path = np.ones(forest.size, np.bool_)
        row = forest.request[nodes]
        place = (self.position[row] + forest.depth[nodes]) % LENGTH
        elsewhere = (place + 1 + 37 * nodes) % LENGTH
        right = np.where(self._on_path[nodes], self.world.target[row, place], NONE)
        truth = self.world.chances[row, np.where(self._on_path[nodes], place, elsewhere)]
        token = np.tile(np.arange(WIDTH), len(nodes))
        self._on_path = np.concatenate([self._on_path, token == right.repeat(WIDTH)])
        parent = nodes.repeat(WIDTH).astype(np.int32)
        return Children.checked(parent, token, self.stated(truth).ravel())


def play(
    world: World, drafter: Drafter, policy: Policy, costs: TableCosts, rounds: int
) -> tuple[float, int]:
    """Committed tokens per modelled second, and tokens, over some rounds."""
    batch = len(world.target)
    position = np.zeros(batch, np.int64)
    for row in range(batch):
        drafter.admit(row, [0])
    tokens, seconds = 0, 0.0
    for _ in range(rounds):
        outcome = _round(world, drafter, policy, costs, position)
        for row, count in enumerate(outcome.committed.tolist()):
            places = (position[row] + np.arange(count)) % LENGTH
            drafter.commit(row, world.target[row, places].tolist())
        policy.observe(outcome)
        if outcome.drafted:
            drafter.learn(outcome)
        position += outcome.committed
        tokens += int(outcome.committed.sum())
        seconds += outcome.modelled_seconds
    return tokens / seconds, tokens


def _round(
    world: World, drafter: Drafter, policy: Policy, costs: TableCosts, position: NDArray[np.int64]
) -> Outcome:
    batch = len(position)
    forest = Forest.roots(np.zeros(batch, np.int64))
    lens, room = np.full(batch, 100), np.full(batch, 64)
    plain = costs.plain_decode(batch, 100.0)
    state = Round(forest, lens, room, costs, plain, 0.0, batch, drafter.name)
    drafter.begin(drafter.name)
    spent = 0.0
    while (nodes := policy.grow(state)).size:
        first = forest.size == batch
        price = costs.draft_catchup(batch, batch, 100.0)
        spent += float(price if first else costs.draft_step(batch, len(nodes), 100.0))
        forest = forest.extend(nodes, drafter.expand(forest, nodes))
        state = replace(state, forest=forest, drafted_seconds=spent)
    cut = policy.cut(state)
    accepted = _accepted(world, forest, cut.nodes, position)
    committed = 1 + np.bincount(forest.request[accepted], minlength=batch)
    marked = np.zeros(forest.size, np.bool_)
    marked[accepted] = True
    drafted = forest.size > batch
    seconds = spent + float(costs.verify(batch, cut.pad_to, 100.0)) if drafted else plain
    return Outcome(committed, seconds, drafted, forest, cut, marked)


def _accepted(
    world: World, forest: Forest, nodes: NDArray[np.int64], position: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The chosen nodes that carry the target's token below ones that do, or below a root."""
    batch = forest.num_requests
    on_path = np.zeros(forest.size, np.bool_)
    on_path[:batch] = True
    chosen = np.sort(nodes)
    for depth in range(1, int(forest.depth.max()) + 1):
        here = chosen[forest.depth[chosen] == depth]
        row = forest.request[here]
        right = forest.token[here] == world.target[row, (position[row] + depth - 1) % LENGTH]
        on_path[here] = right & on_path[forest.parent[here]]
    on_path[:batch] = False
    return on_path.nonzero()[0]

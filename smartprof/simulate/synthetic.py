"""Acceptance by a stated law, for studies without a trace.

The law. Below every node the drafter proposes up to `RANKS` children, and at most one is right.
The best child's chance p of being right is drawn for each node from a Beta distribution with mean
RATE and concentration `CONCENTRATION` (parameters RATE * C and (1 - RATE) * C), so some places are
easy and others hard. The i-th lesser sibling (i = 1, 2, ...) is right with chance
``min(p, (1 - p) / 2 ** (i + 1))``: all lesser ones together share at most half of the rest.
Children less probable than `LEAST` are not proposed. Nodes are independent of each other given
these draws, and proposals have no deepest layer.

What the drafter states is ``p ** CONFIDENCE`` for each child, divided by their sum where that
exceeds 1. With CONFIDENCE 1 it states the truth; below 1 it is over-confident. Acceptance follows
the true chances in any case.

Draws are keyed by seed, request and path: a node on the target's own path by its place in the
output, so that it proposes the same whichever round it is drafted in; any other node by its parent
and its rank. Outcomes therefore do not depend on the policy. A child's token is its rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from smartprof.errors import InputError
from smartprof.simulate.world import END, Ids, SimulatedDrafter, SimulatedRequest, SimulatedTarget
from smartprof.trees.forest import Children, Forest

RANKS = 8
CONCENTRATION = 4.0
LEAST = 0.005
LEVELS = 1024  # equally likely chances of a best child
KIND = "synthetic"
NONE_RIGHT = RANKS  # the target's token where no child is right
MOST_CONFIDENCE = 4.0

Floats = NDArray[np.float64]
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Law:
    """RATE and CONFIDENCE. Raises InputError for values without a meaning."""

    rate: float
    confidence: float = 1.0

    def __post_init__(self) -> None:
        # written so that NaN is refused as well
        if not (0 < self.rate < 1 and 0 < self.confidence <= MOST_CONFIDENCE):
            raise InputError(
                "expected --acceptance synthetic:RATE[,CONFIDENCE] with a rate between 0 and 1 and "
                f"a confidence above 0 and up to {MOST_CONFIDENCE:g}, got {self}"
            )

    @classmethod
    def parse(cls, text: str) -> Law:
        """From ``synthetic:0.7`` or ``synthetic:0.7,0.6``; InputError for anything else."""
        kind, _, numbers = text.partition(":")
        try:
            values = [float(x) for x in numbers.split(",")]
        except ValueError:
            values = []
        if kind != KIND or not 1 <= len(values) <= 2:
            raise InputError(
                f"expected --acceptance synthetic:RATE[,CONFIDENCE], such as synthetic:0.7,0.6, "
                f"got {text!r}"
            )
        return cls(*values)

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return f"{KIND}:{self.rate:g}" + (f",{self.confidence:g}" if self.confidence != 1 else "")

    @cached_property
    def chances(self) -> Floats:
        """float64 [LEVELS, RANKS]: of being right, by level and rank; 0 for no child."""
        middle = (np.arange(LEVELS) + 0.5) / LEVELS
        shape = self.rate * CONCENTRATION, (1 - self.rate) * CONCENTRATION
        best = beta.ppf(middle, *shape)[:, None]
        lesser = np.minimum(best, (1 - best) / 2.0 ** np.arange(2, RANKS + 1))
        chances = np.concatenate([best, lesser], axis=1)
        return np.where(chances >= LEAST, chances, 0.0)

    @cached_property
    def stated(self) -> Floats:
        """float64 [LEVELS, RANKS]: what the drafter says of them."""
        stated = self.chances**self.confidence
        return stated / np.maximum(1.0, stated.sum(axis=1, keepdims=True))


class SyntheticWorld:
    """Requests whose outcomes follow a law."""

    def __init__(
        self,
        law: Law,
        source: str,
        seed: int,
        count: int = 32,
        prompt_tokens: int = 256,
        new_tokens: int = 128,
    ) -> None:
        """source: of the profile's drafters, the one whose seconds are charged."""
        self.law, self.sources, self.seed = law, (source,), seed
        self._count, self._prompt, self._new = count, prompt_tokens, new_tokens
        places = np.arange(new_tokens)
        numbers = np.arange(count)[:, None]
        # one place more than there are tokens, so that negative and later places find something
        right = self.right_rank(self.key(numbers, places))
        self._said = np.concatenate([right, np.full((count, 1), END)], axis=1)

    @property
    def label(self) -> str:
        """The law, and whose seconds drafting takes."""
        return f"acceptance {self.law}, seed {self.seed}, drafted at the price of {self.sources[0]}"

    @cached_property
    def requests(self) -> list[SimulatedRequest]:
        """All alike but for their draws."""
        return [
            SimulatedRequest(
                prompt_id=f"{KIND}-{x}",
                category=KIND,
                split=KIND,
                tokens=(0,) * self._prompt,
                max_new_tokens=self._new,
                number=x,
                length=self._new,
            )
            for x in range(self._count)
        ]

    def says(self, number: Ids, place: Ids) -> Ids:
        """The rank of the right child, or `NONE_RIGHT`."""
        known = (place >= 0) & (place < self._new)
        return self._said[number, np.where(known, place, self._new)]

    def drafter(self, target: SimulatedTarget) -> SyntheticDrafter:
        """Proposes ranks as the law says."""
        return SyntheticDrafter(self, target)

    def key(self, number: Ids, place: Ids) -> Words:
        """What the draws at a place of an output follow from: uint64, broadcast."""
        request = mixed(np.asarray(number, np.uint64) + mixed(np.array([self.seed], np.uint64)))
        return mixed(request + np.asarray(place, np.uint64))

    def right_rank(self, key: Words) -> Ids:
        """Which child is right there, `NONE_RIGHT` for none: int64, of the same shape."""
        chances = self.law.chances[level(key)].cumsum(axis=-1)
        draw = (mixed(key ^ OUTCOME) >> np.uint64(11)) * 2.0**-53
        return (draw[..., None] >= chances).sum(axis=-1)

    @cached_property
    def right_run(self) -> Ids:
        """int64 [count, new_tokens + 1]: right proposals in a row from each place on."""
        run = np.zeros_like(self._said)
        for place in reversed(range(self._new)):
            run[:, place] = (run[:, place + 1] + 1) * (self._said[:, place] < NONE_RIGHT)
        return run


class SyntheticDrafter(SimulatedDrafter):
    """Children by rank, everywhere and as deep as asked; keeps nothing that would be taken in."""

    def __init__(self, world: SyntheticWorld, target: SimulatedTarget) -> None:
        super().__init__(world, target)
        self._world = world
        self._keys: Words = np.zeros(0, np.uint64)  # of the forest's nodes
        self._place: Ids = np.zeros(0, np.int64)  # in the output of the token after a node; or -1

    def pending_of(self, number: int) -> Ids:
        """Nothing of a prompt."""
        return np.zeros(1, np.int64)

    def right_below(self, source: str) -> Ids:
        """As the draws have it, up to the end of the output."""
        return self._world.right_run[self.numbers, self.positions]

    def expand(self, forest: Forest, nodes: Ids) -> Children:
        """Each node's children, best first."""
        if forest.size == forest.num_requests:
            self._place = self.positions
            self._keys = self._world.key(self.numbers, self._place)
        self.take_in(nodes[nodes < forest.num_requests])
        self.asked += len(nodes)
        law, chosen = self._world.law, level(self._keys[nodes])
        proposed = law.chances[chosen] > 0
        parent = np.repeat(nodes, proposed.sum(axis=1))
        rank = proposed.nonzero()[1]
        self._extend(forest, parent, rank)
        return Children(parent.astype(np.int32), rank, law.stated[chosen][proposed])

    def _extend(self, forest: Forest, parent: Ids, rank: Ids) -> None:
        """Keys of new children: by place on the target's own path, by parent and rank off it."""
        number, place = self.numbers[forest.request[parent]], self._place[parent]
        right = (place >= 0) & (rank == self._world.says(number, place))
        below = np.where(right, place + 1, -1)
        by_parent = mixed(self._keys[parent] ^ mixed(rank.astype(np.uint64) + CHILD))
        by_place = self._world.key(number, np.maximum(below, 0))
        self._keys = np.concatenate([self._keys, np.where(right, by_place, by_parent)])
        self._place = np.concatenate([self._place, below])


# SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
STEP, FIRST, SECOND = map(np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
OUTCOME, CHILD = map(np.uint64, (0x5851F42D4C957F2D, 0x14057B7EF767814F))  # keep draws apart


def mixed(word: Words) -> Words:
    """The finaliser of SplitMix64: uint64 arrays to ones that look random."""
    word = word + STEP  # arrays wrap around in silence
    word = (word ^ (word >> np.uint64(30))) * FIRST
    word = (word ^ (word >> np.uint64(27))) * SECOND
    return word ^ (word >> np.uint64(31))


def level(key: Words) -> Ids:
    """Which of the equally likely chances a node has."""
    return (key >> np.uint64(54)).astype(np.int64)

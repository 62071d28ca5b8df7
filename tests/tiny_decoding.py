"""The tiny random model decoding requests under a policy, for the tests of the decoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from smartprof.decode.requests import Request
from smartprof.decode.rounds import Decoder
from smartprof.decode.run import Lane, run_lanes
from smartprof.decode.sampling import GREEDY, Sampling
from smartprof.decode.target import Target
from smartprof.drafters.base import Drafter
from smartprof.drafters.ngram import NgramDrafter
from smartprof.models.shapes import named_shape
from smartprof.models.transformer import Transformer
from smartprof.models.weights import random_weights
from smartprof.policies.base import NO_NODES, Cut, Policy, Round
from smartprof.policies.table import make_policy
from smartprof.trees.forest import Children, Forest
from tests.costs import TableCosts, line

TINY = named_shape("tiny-llama")
POLICIES = (
    "chain:k=5",
    "static:tree=3/2+1/0+1",
    "static:accept=0.6+0.2",
    "eagle2:m=9:depth=4:k=3",
    "cap:budget=24:depth=4:k=3",
    "smart-paper:budget=24",
    "smart",
    "smart-without:part=joint",
)
CAPACITY = 200


@cache
def loud_model() -> Transformer:
    """Random weights, large enough that outputs vary."""
    weights = random_weights(TINY, 3, torch.float32, "cpu")
    scaled = {x: y if x.endswith("norm.weight") else y * 6 for x, y in weights.items()}
    return Transformer(TINY, scaled)


def random_requests(
    count: int,
    seed: int = 0,
    new: int = 40,
    sampling: Sampling = GREEDY,
    stop: tuple[str, ...] = (),
) -> list[Request]:
    """Prompts that repeat themselves, so that n-grams have something to find."""
    rng = np.random.default_rng(seed)
    requests = []
    for number in range(count):
        phrase = rng.integers(0, TINY.vocab, rng.integers(3, 9)).tolist()
        tokens = tuple(phrase * int(rng.integers(1, 5)))
        requests.append(Request(f"p{number}", "test", "test", tokens, new, sampling, stop))
    return requests


class OracleDrafter(Drafter):
    """Knows the plain outputs and proposes the truth beside wrong tokens, more or less often."""

    name = digest = "oracle"
    kind = "test"

    def __init__(self, truth: dict[tuple[int, ...], list[int]], seed: int) -> None:
        self.truth, self.rng = truth, np.random.default_rng(seed)
        self.rows: dict[int, tuple[tuple[int, ...], list[int]]] = {}

    def admit(self, row: int, tokens: Sequence[int]) -> None:
        self.rows[row] = (tuple(tokens), [])

    def commit(self, row: int, tokens: Sequence[int]) -> None:
        self.rows[row][1].extend(tokens)

    def release(self, row: int) -> None:
        del self.rows[row]

    def move(self, source: int, target: int) -> None:
        self.rows[target] = self.rows.pop(source)

    def expand(self, forest: Forest, nodes: NDArray[np.int64]) -> Children:
        parents, tokens = [], []
        for node in nodes.tolist():
            prompt, output = self.rows[int(forest.request[node])]
            place = len(output) + int(forest.depth[node])
            future = self.truth[prompt][place : place + 1]
            wrong = [x for x in self.rng.permutation(TINY.vocab)[:3].tolist() if x not in future]
            chosen = self.rng.permutation(np.array(wrong + future, np.int64)).tolist()
            parents += [node] * len(chosen)
            tokens += chosen
        probability = self.rng.uniform(0.1, 0.25, len(tokens))
        return Children(np.array(parents, np.int32), np.array(tokens, np.int64), probability)


class WholeTree(Policy):
    """Everything that is proposed, two layers deep."""

    name = "whole-tree"

    def grow(self, round: Round) -> NDArray[np.int64]:
        deep = round.forest.depth.max() >= 2
        return NO_NODES if deep else round.forest.frontier

    def cut(self, round: Round) -> Cut:
        nodes = np.arange(round.batch, round.forest.size)
        fits = round.forest.depth[nodes] < round.room[round.forest.request[nodes]]
        return Cut(nodes[fits], round.batch + int(fits.sum()))


def decoded(
    model: Transformer,
    policy: str | Policy,
    requests: Sequence[Request],
    batch: int,
    drafter: Drafter | None = None,
    eos: frozenset[int] = frozenset(),
    detokenise: Callable[[Sequence[int]], str] | None = None,
) -> Lane:
    """A lane that has decoded all requests; their indices are their places."""
    drafter = drafter or NgramDrafter()
    decoder = Decoder(
        Target(model, batch, CAPACITY, drafter.taps),
        drafter,
        make_policy(policy) if isinstance(policy, str) else policy,
        TableCosts(line(1.0, 0.01), line(0.01, 0.001)),
        eos,
        detokenise,
    )
    lane = Lane("test", decoder, batch, deque(enumerate(requests)))
    run_lanes([lane], lambda _: None)
    return lane


def outputs(lane: Lane) -> list[list[int]]:
    """Of all requests, in order."""
    return [x.output for x in sorted(lane.finished, key=lambda x: x.index)]


def truth_of(
    requests: Sequence[Request], plain: list[list[int]]
) -> dict[tuple[int, ...], list[int]]:
    """What the oracle drafter knows: plain outputs by prompt."""
    return {x.tokens: y for x, y in zip(requests, plain, strict=True)}

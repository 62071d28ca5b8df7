"""What a head is worth: real greedy decoding of prompts, at batch 1, with fixed policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smartprof.calibrate.synthetic import Unpriced
from smartprof.decode.prompts import Prompt
from smartprof.decode.requests import Request
from smartprof.decode.rounds import Decoder
from smartprof.decode.target import Target
from smartprof.drafters.confidence import Confidence
from smartprof.drafters.model_drafter import ModelDrafter
from smartprof.models.loading import LoadedModel
from smartprof.policies.table import make_policy

CHAIN, TREE = "chain:k=5", "eagle2:m=8:depth=5:k=4"
RANKS = 8


class RankTally(Confidence):
    """Leaves probabilities as they are, and counts at which rank the target's token was."""

    def __init__(self) -> None:
        super().__init__()
        self.freeze()
        self.hits = np.zeros(RANKS + 1, np.int64)  # the last one: not proposed

    def observe(self, probability: NDArray[np.float64], right: NDArray[np.bool_]) -> None:
        """Count one node."""
        order = np.argsort(-probability, kind="stable")
        found = np.flatnonzero(right[order])
        self.hits[min(int(found[0]), RANKS) if found.size else RANKS] += 1


@dataclass
class Tally:
    """Sums over the rounds of one category and policy.

    deep: int64 [depths], rounds that accepted at least so many tokens, from 1.
    """

    rounds: int = 0
    accepted: int = 0
    deep: NDArray[np.int64] = field(default_factory=lambda: np.zeros(5, np.int64))
    ranks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(RANKS + 1, np.int64))

    def add(self, accepted: int) -> None:
        """One round."""
        self.rounds += 1
        self.accepted += accepted
        self.deep[:accepted] += 1

    def figures(self) -> dict[str, Any]:
        """What is reported: per round; of depths the share of rounds that reached them."""
        return {
            "rounds": self.rounds,
            "accepted_per_round": round(self.accepted / self.rounds, 3),
            "by_depth": (self.deep / self.rounds).round(3).tolist(),
            "rank_shares": (self.ranks / max(1, self.ranks.sum())).round(3).tolist(),
        }


def evaluate(
    model: LoadedModel,
    make: Callable[[], ModelDrafter],
    prompts: Sequence[Prompt],
    tokens: int,
    report: Callable[[str, str, dict[str, Any]], None],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Figures by policy and category, "all" among them."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for policy in (CHAIN, TREE):
        tallies: dict[str, Tally] = {}
        for prompt in prompts:
            both = [tallies.setdefault(x, Tally()) for x in (prompt.category, "all")]
            _decode(model, make(), prompt, tokens, policy, both)
        found[policy] = {x: y.figures() for x, y in tallies.items()}
        for category, figures in found[policy].items():
            report(policy, category, figures)
    return found


def _decode(
    model: LoadedModel,
    drafter: ModelDrafter,
    prompt: Prompt,
    tokens: int,
    policy: str,
    tallies: Sequence[Tally],
) -> None:
    tokenizer = model.tokenizer()
    ids = tokenizer.chat(prompt.text)
    request = Request(prompt.id, prompt.category, prompt.split, tuple(ids), tokens)
    target = Target(model.transformer, 1, len(ids) + tokens + 64, drafter.taps)
    drafter.confidence = ranks = RankTally()
    decoder = Decoder(target, drafter, make_policy(policy), Unpriced(), tokenizer.eos_ids)
    decoder.admit(request, 0)
    while not decoder.rows[0].ended:
        accepted = int(decoder.round().accepted[0])
        for tally in tallies:
            tally.add(accepted)
    for tally in tallies:
        tally.ranks += ranks.hits

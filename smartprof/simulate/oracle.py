"""Ceilings: what no rule can beat, because they know what the target will say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from smartprof.policies.allocation import Ranked, allocate
from smartprof.policies.base import NO_NODES, Cut, Offer, Outcome, Policy, Round
from smartprof.policies.memory import LongRunRate
from smartprof.profile.envelope import Envelope
from smartprof.trees.forest import Forest

HALF_LIFE = 32.0  # rounds of memory in the long-run rate, as `smart` has

# Fixed settings that `oracle-static` chooses from: drafting nothing, chains, EAGLE-2's beams.
STATIC_GRID = (
    "plain",
    *(f"chain:k={k}" for k in range(1, 9)),
    *(f"eagle2:m={m}:depth={depth}" for m in (4, 8, 16, 32, 60) for depth in range(1, 7)),
)


class Foresight(Protocol):
    """What the oracle knows; a drafter of the simulation."""

    def right_below(self, source: str) -> NDArray[np.int64]:
        """int64 [B]: how many right tokens in a row the source would propose from each root on."""

    def on_path(self, forest: Forest) -> NDArray[np.bool_]:
        """bool [n]: nodes on the target's own path, roots included."""


@dataclass(frozen=True, eq=False)
class _Plan:
    """For one round: layers to draft, right tokens that each request has, and what it is worth."""

    layers: int
    right: NDArray[np.int64]
    value: float


class Oracle(Policy):
    """Drafts and verifies right tokens alone, as many as are worth their seconds.

    Each round it looks at how many right tokens in a row every source would propose for each
    request, and takes the source, the number of layers and the number of nodes with the most
    ``tokens - theta * seconds``: one path per request, no wrong node. theta is the long-run rate of
    committed tokens, never below plain decoding's, as for `smart`. It drafts only what the drafter
    proposes, so a better drafter has a higher ceiling. It decodes plainly where nothing right would
    be proposed, so it is a ceiling under profiles in which drafting in vain is not cheaper than
    that.
    """

    name: ClassVar[str] = "oracle"
    summary: ClassVar[str] = "knows the target's path; simulation only"

    def __init__(self, foresight: Foresight) -> None:
        super().__init__()
        self._foresight = foresight
        self._rates: dict[int, LongRunRate] = {}
        self._plan = _Plan(0, NO_NODES, 0.0)

    def choose(self, round: Round, offers: Sequence[Offer], outlook: Callable[[], float]) -> Offer:
        """The source with the best plan."""
        plans = [self._planned(round, x) for x in offers]
        best = max(range(len(offers)), key=lambda x: plans[x].value)
        self._plan = plans[best]
        return offers[best]

    def grow(self, round: Round) -> NDArray[np.int64]:
        """The right node of the newest layer of each request that has a right one below it."""
        forest = round.forest
        depth = int(forest.depth.max())
        if depth >= self._plan.layers:
            return NO_NODES
        newest = self._foresight.on_path(forest) & (forest.depth == depth) & ~forest.expanded
        return (newest & (self._plan.right > depth)[forest.request]).nonzero()[0]

    def cut(self, round: Round) -> Cut:
        """Right nodes, the shallow ones first, as many as pay."""
        forest = round.forest
        right = self._foresight.on_path(forest)
        right &= forest.depth <= np.minimum(self._plan.right, round.room - 1)[forest.request]
        nodes = right.nonzero()[0][round.batch :]  # layer by layer, so parents come first
        envelope = _envelope(round, round.costs.most_tokens, len(nodes))
        nodes = nodes[: len(envelope.seconds) - 1]
        ranked = Ranked(nodes, np.ones(len(nodes)))
        found = allocate(ranked, envelope.seconds, envelope.pad_to, self._theta(round))
        return Cut(found.nodes, found.pad_to)

    def observe(self, outcome: Outcome) -> None:
        """Update the long-run rate."""
        tokens = int(outcome.committed.sum())
        self._rates[len(outcome.committed)].add(tokens, outcome.modelled_seconds)

    def _theta(self, round: Round) -> float:
        batch, seconds = round.batch, round.plain_seconds
        if batch not in self._rates:
            self._rates[batch] = LongRunRate(HALF_LIFE, batch, seconds)
        return self._rates[batch].value(batch / seconds)

    def _planned(self, round: Round, offer: Offer) -> _Plan:
        theta, batch, context = self._theta(round), round.batch, round.context
        right = np.minimum(self._foresight.right_below(offer.source), round.room - 1)
        plain = _Plan(0, right, -theta * round.plain_seconds)
        deepest = int(right.max())
        if deepest == 0:
            return plain
        widths = (right > np.arange(deepest)[:, None]).sum(axis=1)  # expanded in each layer
        catchup = offer.costs.draft_catchup(batch, max(batch, offer.noted), context)
        steps = np.asarray(offer.costs.draft_step(batch, widths[1:], context))
        draft = float(catchup) + np.concatenate([[0.0], steps.cumsum()])
        envelope = _envelope(round, offer.costs.most_tokens, int(widths.sum()))
        count = len(envelope.seconds)
        best = np.maximum.accumulate(np.arange(count) - theta * envelope.seconds)
        values = best[np.minimum(widths.cumsum(), count - 1)] - theta * draft
        layers = int(values.argmax())
        found = _Plan(layers + 1, np.minimum(right, layers + 1), float(values[layers]))
        return found if found.value > plain.value else plain


def _envelope(round: Round, most_tokens: int, nodes: int) -> Envelope:
    """Seconds of verifying 0, 1, ... `nodes` nodes, as far as was measured."""
    batch = round.batch
    most = max(batch, min(most_tokens, batch + nodes))
    return round.costs.verify_envelope(batch, most, round.context)

"""Trees sized by measured costs, jointly over the batch.

After "SMART: When is it Actually Worth Expanding a Speculative Tree?", arXiv 2604.09731, which
expands a node while its marginal benefit exceeds its marginal cost. Differs from it in the
objective (the long-run rate of committed tokens, which is exact for expected tokens and needs no
threshold), in the costs (a measured table of any shape), in the search (an exact scan over the
whole batch instead of a layer-wise test per request), and in pricing draft steps and drafting as
such before they are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from smartprof.policies.allocation import Allocation, Ranked, allocate, best_width, no_step_can_pay
from smartprof.policies.base import NO_NODES, Cut, Offer, Outcome, Policy, Round
from smartprof.policies.memory import ContinuationRatio, DraftingRecord, LongRunRate
from smartprof.policies.options import real, whole
from smartprof.policies.ranking import largest, rank_within

if TYPE_CHECKING:
    from smartprof.profile.cost import Costs, Envelope

CONTEXT_GRAIN = 16  # tokens of mean context within which prices are not looked up again
PROBE_BUDGET = 0.005  # share of the tokens that drafting on trial may cost
OUTLOOKS = np.array([0.25, 0.6, 0.85])  # edges of how promising a lookup finds a round


@dataclass(frozen=True)
class SmartOptions:
    """Bounds of the search; none of them is a threshold of the rule."""

    depth: int = whole(16, 1, 64, "deepest node")
    limit: int = whole(2048, 1, 4096, "drafted nodes per request, on average over the batch")
    most: int = whole(256, 2, 4096, "tokens in one verify pass, rows in one draft step")
    half_life: float = real(32.0, 1.0, 1e6, "rounds of memory in the long-run rate")
    probe: int = whole(1024, 1, 100_000, "most rounds between trials while drafting does not pay")
    floor: int = whole(0, 0, 64, "least nodes verified of each request with so many, if drafted")


@dataclass(frozen=True, eq=False)
class _Prices:
    """Seconds that a round of this batch and context asks for again and again.

    context_seconds: what one more token of context adds to the seconds of one more node.
    """

    costs: Costs
    batch: int
    grain: int
    envelope: Envelope
    step_seconds: NDArray[np.float64]  # widths 1, 2, ...
    context_seconds: float


@dataclass(frozen=True)
class _Kind:
    """Rounds whose drafting is judged together: batch, source, and range of the outlook."""

    batch: int
    source: str
    outlook: int


@dataclass(frozen=True)
class _Decision:
    """What was known when a round began."""

    kind: _Kind
    theta: float
    plain_seconds: float
    catchup_seconds: float
    possible: bool  # some request has room for a draft token
    on_trial: bool  # drafted although it was expected not to pay


class Smart(Policy):
    """Spends a second only where it brings more tokens than the long-run rate."""

    name: ClassVar[str] = "smart"
    paper: ClassVar[str] = "ours, after SMART, arXiv 2604.09731"
    summary: ClassVar[str] = "as many nodes as measured costs justify, jointly over the batch"
    options_type = SmartOptions
    options: SmartOptions

    def __init__(self, options: SmartOptions | None = None) -> None:
        super().__init__(options)
        self.reset()

    def reset(self) -> None:
        """Back to the plain rate, optimism, and no memory of rounds."""
        self._rates: dict[int, LongRunRate] = {}
        self._records: dict[_Kind, DraftingRecord] = {}
        self._ratios: dict[str, ContinuationRatio] = {}
        self._prices: dict[str, _Prices] = {}
        self._outlook = 0  # range of this round's
        self._decision: _Decision | None = None
        self._step: tuple[int, float] | None = None  # forest size and mass of the last draft step
        self._allocated: tuple[Round, Allocation] | None = None  # the latest, and what it is of

    def choose(self, round: Round, offers: Sequence[Offer], outlook: Callable[[], float]) -> Offer:
        """The source that gains most, by what rounds of such an outlook gained before.

        Another is tried now and then, as `grow` tries drafting when it does not pay: more often
        where a trial is cheap.
        """
        if len(offers) == 1:
            return offers[0]
        self._outlook = int(OUTLOOKS.searchsorted(outlook()))
        theta = self._theta(round)
        gains = [self._advantage(round, x, theta) for x in offers]
        best = max(gains)
        for offer, gain in zip(offers, gains, strict=True):
            idle = self._record(round.batch, offer.source).idle_rounds
            if gain < best and idle + 1 >= self._interval(best - gain, round.batch):
                return offer
        return offers[gains.index(best)]

    def grow(self, round: Round) -> NDArray[np.int64]:
        """The next draft step, priced before it is taken.

        Roots: drafting as such must be expected to pay, catch-up included, judged by what
        drafted rounds gained before. While it does not pay it is tried now and then, the more
        rarely the more a trial is expected to lose: a share of `PROBE_BUDGET` of all tokens, unless
        `probe` asks for more.

        Leaves: stops when `no_step_can_pay`, which is proven; else takes the `best_width`, an
        estimate that may stop earlier and may also be wrong.
        """
        forest = round.forest
        if not forest.expanded[: round.batch].any():
            return self._grow_roots(round)
        self._learn_ratio(round)
        leaves = self._open_leaves(round)
        if leaves.size == 0:
            return NO_NODES
        chosen = self._expanded(round, leaves)
        if chosen.size:
            self._step = (forest.size, float(forest.path_prob[chosen].sum()))
        return chosen

    def cut(self, round: Round) -> Cut:
        """The nodes worth verifying over all requests, and the size the pass is padded to.

        Attains the maximum of ``sum (f - theta * kappa) - theta * C(B + N)`` over all prefix-closed
        selections of nodes that fit the requests' room; seconds already spent on drafting are
        sunk. C is the time at the mean context, kappa what a node costs more because its request's
        context is longer than that, or less.
        """
        allocation = self._allocation(round)
        return Cut(allocation.nodes, allocation.pad_to)

    def observe(self, outcome: Outcome) -> None:
        """Update the long-run rate, and after a drafted round what drafting gained."""
        decision, batch = self._decision, len(outcome.committed)
        if decision is None:
            return
        tokens = int(outcome.committed.sum())
        self._rates[batch].add(tokens, outcome.modelled_seconds)
        record = self._records[decision.kind]
        for kind, other in self._records.items():
            same = (kind.batch, kind.outlook) == (batch, decision.kind.outlook)
            if same and not (other is record and outcome.drafted):
                other.idle_rounds += decision.possible
        if not outcome.drafted:
            return
        record.idle_rounds = 0
        gained = tokens - batch
        extra = outcome.modelled_seconds - decision.plain_seconds
        paid = gained > decision.theta * extra
        count = record.restart if decision.on_trial and paid else record.add
        count(gained, extra - decision.catchup_seconds)

    def _grow_roots(self, round: Round) -> NDArray[np.int64]:
        batch = round.batch
        self._step, self._allocated = None, None
        theta = self._theta(round)
        offer = Offer(round.source, round.costs, round.noted)
        record = self._record(batch, round.source)
        roots = (round.room > 1).nonzero()[0]
        loss = -self._advantage(round, offer, theta)
        self._decision = _Decision(
            kind=_Kind(batch, round.source, self._outlook),
            theta=theta,
            plain_seconds=round.plain_seconds,
            catchup_seconds=_catchup_seconds(round, offer),
            possible=roots.size > 0,
            on_trial=loss > 0,
        )
        due = record.idle_rounds + 1 >= self._interval(loss, batch)
        return roots if due else NO_NODES

    def _record(self, batch: int, source: str) -> DraftingRecord:
        """Of rounds like this one."""
        kind = _Kind(batch, source, self._outlook)
        if kind not in self._records:
            self._records[kind] = DraftingRecord(batch)
        return self._records[kind]

    def _advantage(self, round: Round, offer: Offer, theta: float) -> float:
        """Tokens that drafting with this source is expected to gain, net of its seconds."""
        record = self._record(round.batch, offer.source)
        return record.advantage(theta, _catchup_seconds(round, offer))

    def _interval(self, loss: float, batch: int) -> float:
        """Rounds between trials that are expected to lose so many tokens each.

        Together they lose `PROBE_BUDGET` of what plain decoding yields meanwhile.
        """
        return min(self.options.probe, loss / (PROBE_BUDGET * batch))

    def _theta(self, round: Round) -> float:
        """Tokens that a second is worth."""
        batch, plain_seconds = round.batch, round.plain_seconds
        if batch not in self._rates:
            self._rates[batch] = LongRunRate(self.options.half_life, batch, plain_seconds)
        return self._rates[batch].value(batch / plain_seconds)

    def _open_leaves(self, round: Round) -> NDArray[np.int64]:
        """Unexpanded nodes with room for a child, most probable first, within the limits."""
        forest = round.forest
        spare = self.options.limit * round.batch - (forest.size - round.batch)
        if spare <= 0:
            return NO_NODES
        reach = round.reach(self.options.depth)
        fit = ~forest.expanded & (forest.depth < reach[forest.request])
        fit[: round.batch] = False
        leaves = fit.nonzero()[0]
        return leaves[largest(forest.path_prob[leaves], min(spare, self._most(round)))]

    def _expanded(self, round: Round, leaves: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the open leaves, most probable first, that the next draft step expands."""
        masses = round.forest.path_prob[leaves]
        theta, prices = self._theta(round), self._priced(round)
        if no_step_can_pay(masses, prices.step_seconds, theta):
            return NO_NODES
        allocation = self._allocation(round)
        larger = prices.envelope.seconds[len(allocation.nodes) :]
        displaced = np.sort(allocation.worth)
        ratio = self._ratio(round).value
        width = best_width(masses, ratio, displaced, larger, prices.step_seconds, theta)
        return leaves[:width]

    def _allocation(self, round: Round) -> Allocation:
        """The nodes worth verifying; after the last `grow`, what that already found."""
        if self._allocated is None or self._allocated[0] is not round:
            ranked, envelope = self._ranked(round), self._priced(round).envelope
            found = allocate(ranked, envelope.seconds, envelope.pad_to, self._theta(round))
            self._allocated = round, found
        return self._allocated[1]

    def _ranked(self, round: Round) -> Ranked:
        """Usable nodes by worth, parents before children, as many as can be priced.

        The worth of a node never exceeds its parent's, because both pay the same for their context.
        """
        forest, batch, prices = round.forest, round.batch, self._priced(round)
        reach = round.reach(self.options.depth)
        fit = forest.depth <= reach[forest.request]
        fit[:batch] = False
        usable = fit.nonzero()[0]
        request = forest.request[usable]
        kappa = prices.context_seconds * (round.context_lens - round.context)
        worth = forest.path_prob[usable] - self._theta(round) * kappa[request]
        most = len(prices.envelope.seconds) - 1
        if not self.options.floor:
            order = largest(worth, most)
            return Ranked(usable[order], worth[order])
        order = largest(worth, len(worth))
        first = rank_within(request, worth)[order] < self.options.floor
        order, forced = np.concatenate([order[first], order[~first]])[:most], int(first.sum())
        return Ranked(usable[order], worth[order], min(forced, most))

    def _priced(self, round: Round) -> _Prices:
        """Verify and draft-step seconds of this batch near this context."""
        batch, grain = round.batch, int(round.context) // CONTEXT_GRAIN
        prices = self._prices.get(round.source)
        if prices and (prices.costs, prices.batch, prices.grain) == (round.costs, batch, grain):
            return prices
        drafted = self.options.limit * batch
        most = max(batch, min(self._most(round), batch + drafted))
        widths = np.arange(1, min(self._most(round), drafted) + 1)
        self._prices[round.source] = prices = _Prices(
            round.costs,
            batch,
            grain,
            round.costs.verify_envelope(batch, most, round.context),
            np.asarray(round.costs.draft_step(batch, widths, round.context)),
            _context_seconds(round, most),
        )
        return prices

    def _most(self, round: Round) -> int:
        """Tokens of a verify pass, rows of a draft step: as asked for, and as measured."""
        return min(self.options.most, round.costs.most_tokens)

    def _ratio(self, round: Round) -> ContinuationRatio:
        """Of the source that drafts this round."""
        return self._ratios.setdefault(round.source, ContinuationRatio())

    def _learn_ratio(self, round: Round) -> None:
        if self._step is None:
            return
        size, parents = self._step
        self._ratio(round).add(parents, float(round.forest.path_prob[size:].sum()))
        self._step = None


def _catchup_seconds(round: Round, offer: Offer) -> float:
    """Of the source's catch-up on what it has not taken in."""
    accepted = max(round.batch, offer.noted)
    return float(offer.costs.draft_catchup(round.batch, accepted, round.context))


def _context_seconds(round: Round, most: int) -> float:
    """Seconds per node and token of context: how the slope of verify passes rises with context.

    The mean slope up to `most` tokens, at the present context against half of it.
    """
    batch, costs = round.batch, round.costs
    if most == batch:
        return 0.0
    contexts = (round.context / 2, round.context)
    short, long = (costs.verify(batch, most, x) - costs.verify(batch, batch, x) for x in contexts)
    slope = float(long - short) / ((most - batch) * (contexts[1] - contexts[0]))
    return max(0.0, slope)  # less than nothing is noise: more keys are never read faster

"""Candidates priced by a profile at one batch and context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smartprof.errors import InputError
from smartprof.planning.acceptance import Acceptance
from smartprof.planning.settings import Candidate
from smartprof.policies.round_prices import round_prices
from smartprof.policies.tree_search import RoundSeconds
from smartprof.profile.cost import CostModel, Costs
from smartprof.profile.surface import Tier
from smartprof.stats import RESAMPLES

TIERS: tuple[Tier, ...] = ("exact", "interpolated", "extrapolated")
NORMAL_95 = 1.96


@dataclass(frozen=True)
class Place:
    """A batch and a context."""

    batch: int
    context: float


@dataclass(frozen=True)
class RoundParts:
    """Seconds of one round of the whole batch, by what they are spent on."""

    catchup: float
    steps: float
    verify: float
    overhead: float

    @property
    def total(self) -> float:
        """Of the round."""
        return self.catchup + self.steps + self.verify + self.overhead


def token_rates(costs: Costs, candidates: Sequence[Candidate], place: Place) -> NDArray[np.float64]:
    """float64 [candidates]: tokens per second of one request, -inf where out of what was measured.

    candidates: plain decoding first. A setting whose verify pass is longer than the longest that
    was measured has no price. Raises DomainError if the place itself is too far outside.
    """
    plain_seconds = costs.plain_decode(place.batch, place.context)
    rates = np.full(len(candidates), -np.inf)
    rates[0] = 1.0 / plain_seconds
    priced = [i for i in range(1, len(candidates)) if fits(costs, candidates[i], place.batch)]
    if not priced:
        return rates
    chosen = [candidates[i] for i in priced]
    expected = np.array([x.expected for x in chosen])
    rows, tokens = _rows(chosen), np.array([1 + x.setting.nodes for x in chosen])
    rates[priced] = expected / _prices(costs, chosen, place).parts(rows, tokens, expected).total
    return rates


def fits(costs: Costs, candidate: Candidate, batch: int) -> bool:
    """Whether its verify pass is no longer than the longest that was measured."""
    return batch * (1 + candidate.setting.nodes) <= costs.most_tokens


def require_measured(costs: Costs, batch: int) -> None:
    """Raise InputError for a batch of which no draft at all could be priced."""
    if 2 * batch > costs.most_tokens:
        raise InputError(
            f"expected a batch of at most {costs.most_tokens // 2}, for which one draft token per "
            f"request fits into the longest measured verify pass ({costs.most_tokens} tokens), got "
            f"{batch}: name smaller batches, or calibrate with larger ones"
        )


def round_parts(costs: Costs, candidate: Candidate, place: Place) -> RoundParts:
    """The seconds of a round apart; a plain round is one figure, in `verify`."""
    if not candidate.setting.depth:
        return RoundParts(0.0, 0.0, costs.plain_decode(place.batch, place.context), 0.0)
    tokens = 1 + candidate.setting.nodes
    prices = _prices(costs, [candidate], place)
    parts = prices.parts(_rows([candidate]), np.array([tokens]), np.array([candidate.expected]))
    overhead = float(costs.round_overhead(place.batch, place.batch * tokens))
    verify = float(parts.verify[0]) - overhead
    return RoundParts(float(parts.catchup[0]), float(parts.steps[0]), verify, overhead)


def tier(costs: CostModel, candidate: Candidate, place: Place) -> Tier:
    """The least certain of the predictions that the speedup at this place rests on."""
    found = [costs.predict(*query).tier for query in _queries(costs, candidate, place)]
    return max(found, key=TIERS.index)


def speedup_interval(
    costs: CostModel, acceptance: Acceptance, candidate: Candidate, place: Place
) -> tuple[float, float]:
    """95 % interval of the speedup over plain decoding.

    From the intervals of the measured seconds, each quantity drawn by itself from a lognormal of
    that width, and from the acceptance's counts where it has any.
    """
    if not candidate.setting.depth:
        return 1.0, 1.0
    random = np.random.default_rng(0)
    parts = round_parts(costs, candidate, place)
    plain = costs.plain_decode(place.batch, place.context)
    seconds = [plain, parts.verify, parts.overhead, parts.catchup, parts.steps]
    drawn = []
    # Without draft steps after the first there is no query for them, and nothing to add.
    for value, query in zip(seconds, _queries(costs, candidate, place), strict=False):
        share = costs.half_width(*query) / costs.predict(*query).seconds / NORMAL_95
        drawn.append(value * np.exp(share * random.standard_normal(RESAMPLES)))
    tokens = candidate.expected_under(acceptance.draws(RESAMPLES))
    speedups = tokens * drawn[0] / np.sum(drawn[1:], axis=0)
    low, high = np.quantile(speedups, [0.025, 0.975])
    return float(low), float(high)


def _queries(
    costs: CostModel, candidate: Candidate, place: Place
) -> list[tuple[str, int, int, float]]:
    """What is asked of the profile: plain decoding, verify, overhead, catch-up, a typical step.

    A catch-up longer than those that have a price of their own is as certain as the longest of
    these, whose seconds per token it is priced by.
    """
    batch, context = place.batch, place.context
    queries = [("plain_decode", batch, batch, context)]
    if not candidate.setting.depth:
        return queries
    total = batch * (1 + candidate.setting.nodes)
    accepted = min(round(batch * candidate.expected), costs.most_catchup)
    queries += [
        ("verify", batch, total, context),
        ("round_overhead", batch, total, context),
        ("draft_catchup", batch, accepted, context),
    ]
    if candidate.rows:
        queries.append(("draft_step", batch, batch * max(candidate.rows), context))
    return queries


def _prices(costs: Costs, candidates: Sequence[Candidate], place: Place) -> RoundSeconds:
    return round_prices(
        costs,
        place.batch,
        place.context,
        plain_seconds=costs.plain_decode(place.batch, place.context),
        tokens=1 + max(x.setting.nodes for x in candidates),
        rows=max((max(x.rows, default=1) for x in candidates), default=1),
        depth=max(x.setting.depth for x in candidates),
    )


def _rows(candidates: Sequence[Candidate]) -> NDArray[np.int64]:
    """int64 [candidates, steps]: rows of each, filled up with 0."""
    rows = np.zeros((len(candidates), max(len(x.rows) for x in candidates)), np.int64)
    for line, candidate in zip(rows, candidates, strict=True):
        line[: len(candidate.rows)] = candidate.rows
    return rows

"""The best setting of a family for each batch and context, and what it buys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smartprof.errors import InputError
from smartprof.planning.acceptance import Acceptance
from smartprof.planning.choose import fastest, in_ranges, reluctant
from smartprof.planning.families.base import Bounds, Family
from smartprof.planning.prices import (
    Place,
    RoundParts,
    require_measured,
    round_parts,
    speedup_interval,
    tier,
    token_rates,
)
from smartprof.planning.settings import Candidate, Setting
from smartprof.profile.cost import CostModel
from smartprof.profile.surface import Tier


@dataclass(frozen=True)
class Rule:
    """How settings are chosen: the fastest each, reluctant to change, or few.

    min_gain: what leaving the next smaller batch's setting must gain, as a share. ranges: at most
    so many ranges of batches with one setting each, so at most so many distinct ones.
    """

    min_gain: float = 0.0
    ranges: int | None = None

    def __post_init__(self) -> None:
        """Raise InputError for bounds, and for both at once: together they are no optimum."""
        if not 0 <= self.min_gain < 10:
            raise InputError(
                f"expected --min-gain as a share such as 0.05, from 0, got {self.min_gain:g}"
            )
        if self.ranges is not None and self.ranges < 1:
            raise InputError(f"expected --settings from 1, got {self.ranges}")
        if self.ranges is not None and self.min_gain:
            raise InputError("expected --min-gain or --settings, got both: drop one")

    def choose(self, rates: NDArray[np.float64]) -> NDArray[np.int64]:
        """int64 [batches]: the setting of each, from rates [batches, settings]."""
        if self.ranges is not None:
            return in_ranges(rates, min(self.ranges, len(rates)))
        return reluctant(rates, self.min_gain) if self.min_gain else fastest(rates)


@dataclass(frozen=True, eq=False)
class Priced:
    """A setting at one place.

    tokens: expected per request and round, the target's own included. parts: seconds of a round.
    speedup: over plain decoding at the same place.
    """

    setting: Setting
    tokens: float
    parts: RoundParts
    speedup: float


@dataclass(frozen=True, eq=False)
class Cell:
    """What is planned for one batch and context.

    low, high: 95 % interval of the chosen setting's speedup. tier: of the least certain prediction
    that it rests on. fastest: the best setting here, which the rule may have passed over.
    runner_up: the best of all but the chosen one. plain_seconds: of a plain round.
    """

    batch: int
    context: float
    chosen: Priced
    low: float
    high: float
    tier: Tier
    fastest: Priced
    runner_up: Priced
    plain_seconds: float

    @property
    def pays(self) -> bool:
        """Whether speculation was chosen."""
        return self.chosen.setting.depth > 0


@dataclass(frozen=True, eq=False)
class Plan:
    """Cells for every context, and in each for every batch, ascending."""

    family: str
    rule: Rule
    acceptance: Acceptance
    contexts: tuple[float, ...]
    batches: tuple[int, ...]
    cells: tuple[Cell, ...]

    def at(self, context: float) -> tuple[Cell, ...]:
        """The cells of one context, by batch."""
        return tuple(x for x in self.cells if x.context == context)


def make_plan(
    costs: CostModel,
    acceptance: Acceptance,
    family: Family,
    batches: Sequence[int],
    contexts: Sequence[float],
    *,
    rule: Rule | None = None,
    bounds: Bounds | None = None,
) -> Plan:
    """Choose for each batch and context; the rule runs along the batches of each context.

    costs: of a drafter. Expected tokens come from `acceptance`, seconds from `costs` alone: a round
    is catch-up, draft steps, verify pass and overhead. Raises InputError or DomainError for batches
    and contexts outside what the profile can answer.
    """
    rule, bounds = rule or Rule(), bounds or Bounds()
    batches, contexts = sorted(set(batches)), sorted(set(contexts))
    for batch in batches:
        require_measured(costs, batch)
    candidates = family.candidates(acceptance, bounds)
    allowed = _allowed(candidates, bounds)
    cells: list[Cell] = []
    for context in contexts:
        places = [Place(x, context) for x in batches]
        rates = np.stack([token_rates(costs, candidates, x) for x in places])
        choice = rule.choose(np.where(allowed, rates, -np.inf))
        for place, row, chosen in zip(places, rates, choice, strict=True):
            cells.append(_cell(costs, acceptance, candidates, place, row, int(chosen)))
    return Plan(family.name, rule, acceptance, tuple(contexts), tuple(batches), tuple(cells))


def _allowed(candidates: Sequence[Candidate], bounds: Bounds) -> NDArray[np.bool_]:
    """bool [candidates]: those of enough layers."""
    allowed = np.array([x.setting.depth >= bounds.least for x in candidates])
    if not allowed.any():
        raise InputError(
            f"expected a least length that the acceptance covers, at most "
            f"{candidates[-1].setting.depth}, got {bounds.least}"
        )
    return allowed


def _cell(
    costs: CostModel,
    acceptance: Acceptance,
    candidates: Sequence[Candidate],
    place: Place,
    rates: NDArray[np.float64],
    chosen: int,
) -> Cell:
    others = rates.copy()
    others[chosen] = -np.inf
    candidate = candidates[chosen]
    low, high = speedup_interval(costs, acceptance, candidate, place)
    return Cell(
        batch=place.batch,
        context=place.context,
        chosen=_priced(costs, candidate, place),
        low=low,
        high=high,
        tier=tier(costs, candidate, place),
        fastest=_priced(costs, candidates[int(rates.argmax())], place),
        runner_up=_priced(costs, candidates[int(others.argmax())], place),
        plain_seconds=costs.plain_decode(place.batch, place.context),
    )


def _priced(costs: CostModel, candidate: Candidate, place: Place) -> Priced:
    parts = round_parts(costs, candidate, place)
    plain = costs.plain_decode(place.batch, place.context)
    speedup = candidate.expected * plain / parts.total
    return Priced(candidate.setting, candidate.expected, parts, speedup)

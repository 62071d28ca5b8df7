"""What choosing by a profile is estimated to lose, by its noise and its held-out errors.

A decision picks the fastest of plain decoding, chains and EAGLE-2's trees at one batch and context
for assumed acceptance rates. Its regret is 1 - speed(picked) / speed(best), both by the truth. Of
that nobody knows more than the profile; so bootstrap refits take its place, one after the other.
Against another profile, a denser one for instance, `decisions` tells the regret as it is.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smartprof.errors import DomainError
from smartprof.planning.decisions import CURVES, FAMILY
from smartprof.planning.families.base import Bounds
from smartprof.planning.families.table import find_family
from smartprof.planning.prices import Place
from smartprof.planning.sources.table import read_acceptance
from smartprof.policies.round_prices import round_prices
from smartprof.policies.tree_search import RoundSeconds
from smartprof.profile.cost import CostModel, Costs
from smartprof.profile.quality import DecisionRegret
from smartprof.profile.refits import NORMAL_95, refitted
from smartprof.profile.schema import Profile

BOUNDS = Bounds()
REFITS = 100
LEAST_DRAFT = 2  # tokens per request of the smallest tree


@dataclass(frozen=True, eq=False)
class Menu:
    """All settings for one acceptance, plain decoding first, ready to be priced many times.

    rows: int64 [settings, steps], nodes expanded in each step after the first. tokens: int64
    [settings], verified per request, the root included. expected: float64 [settings], committed.
    """

    rows: NDArray[np.int64]
    tokens: NDArray[np.int64]
    expected: NDArray[np.float64]

    @classmethod
    def of(cls, acceptance: str) -> Menu:
        """For an acceptance written as `plan` takes it."""
        candidates = find_family(FAMILY).candidates(read_acceptance(acceptance), BOUNDS)
        rows = np.zeros((len(candidates), BOUNDS.depth), np.int64)
        for line, candidate in zip(rows, candidates, strict=True):
            line[: len(candidate.rows)] = candidate.rows
        tokens = np.array([1 + x.setting.nodes for x in candidates])
        return cls(rows, tokens, np.array([x.expected for x in candidates]))


def estimated_regret(profile: Profile, refits: int = REFITS) -> DecisionRegret | None:
    """Regret at the batches and contexts of the verify passes, over every drafter of the profile.

    None where there is no decision to take: no drafter, or no room for a draft.
    """
    menus = [Menu.of(x) for x in CURVES]
    most = profile.verify.domain.size[1]
    costs = [CostModel(profile, x) for x in profile.drafters]
    places = _priced(_measured(profile), costs, menus)
    if not places:
        return None
    asked = [(source, place) for source in range(len(costs)) for place in places]
    picked = [[int(x.argmax()) for x in _rates(costs[y], menus, z, most)] for y, z in asked]
    random, stray = np.random.default_rng(0), interpolation_error(profile)
    losses: list[float] = []
    for _ in range(refits):
        drawn = refitted(profile, random, stray)
        truths = [CostModel(drawn, x) for x in profile.drafters]
        for (source, place), choices in zip(asked, picked, strict=True):
            rates = _rates(truths[source], menus, place, most)
            losses += [_regret_pct(x, y) for x, y in zip(rates, choices, strict=True)]
    return DecisionRegret(
        mean_pct=float(np.mean(losses)),
        p95_pct=float(np.quantile(losses, 0.95)),
        max_pct=max(losses),
        refits=refits,
        decisions=len(losses),
        acceptance=list(CURVES),
        batches=sorted({x.batch for x in places}),
        contexts=sorted({int(x.context) for x in places}),
    )


def interpolation_error(profile: Profile) -> float:
    """Relative standard deviation of verify passes around the curves, beyond the noise.

    From held-out points: their mean absolute error, as of a normal distribution, less the noise
    floor of both the measured and the predicted seconds. 0 without points.
    """
    quality = profile.quality
    points = [x for x in quality.points if x.quantity == "verify"]
    if not points:
        return 0.0
    strayed = [abs(math.log(x.predicted_seconds / x.measured_seconds)) for x in points]
    deviation = math.sqrt(math.pi / 2) * float(np.mean(strayed))
    noise = (quality.noise_floor_pct or 0.0) / 100 / NORMAL_95
    return math.sqrt(max(0.0, deviation**2 - 2 * noise**2))


def _measured(profile: Profile) -> list[Place]:
    """Of verify passes, where a request can have a draft at all."""
    most = profile.verify.domain.size[1]
    curves = [(x.batch or 1, x.context or 0) for x in profile.verify.curves]
    return [Place(x, float(y)) for x, y in curves if LEAST_DRAFT * x <= most]


def _priced(
    places: Sequence[Place], costs: Sequence[CostModel], menus: Sequence[Menu]
) -> list[Place]:
    """Those where every quantity of every drafter has a price."""
    found = []
    for place in places if costs else ():
        with contextlib.suppress(DomainError):
            for one in costs:
                _rates(one, menus, place, one.most_tokens)
            found.append(place)
    return found


def _rates(
    costs: Costs, menus: Sequence[Menu], place: Place, most: int
) -> list[NDArray[np.float64]]:
    """For each menu float64 [settings]: tokens per second, -inf for passes of over `most` tokens.

    Up to a factor that all share: of one request.
    """
    prices = round_prices(
        costs,
        place.batch,
        place.context,
        plain_seconds=costs.plain_decode(place.batch, place.context),
        tokens=min(1 + BOUNDS.nodes, most // place.batch),
        rows=max(int(x.rows.max()) for x in menus),
        depth=BOUNDS.depth,
    )
    return [_menu_rates(prices, x) for x in menus]


def _menu_rates(prices: RoundSeconds, menu: Menu) -> NDArray[np.float64]:
    fits = menu.tokens < len(prices.verify)
    rates = np.full(len(menu.tokens), -np.inf)
    rounds = prices.parts(menu.rows[fits], menu.tokens[fits], menu.expected[fits])
    rates[fits] = menu.expected[fits] / rounds.total
    rates[0] = 1.0 / prices.verify[1]  # plain decoding has no catch-up
    return rates


def _regret_pct(true_rates: NDArray[np.float64], picked: int) -> float:
    return 100 * (1 - float(true_rates[picked] / true_rates.max()))

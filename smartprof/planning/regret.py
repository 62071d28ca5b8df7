"""What choosing by one profile loses where another tells the truth: decision regret.

A decision picks the fastest of plain decoding, chains and EAGLE-2's trees at one batch and context
for assumed acceptance rates. Its regret is 1 - speed(picked) / speed(best), both by the truth. The
true one needs dense measurements of the device; the estimate lets bootstrap refits of the profile
take the place of the truth one after the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smartprof.errors import DomainError
from smartprof.planning.acceptance import Acceptance
from smartprof.planning.families.base import Bounds
from smartprof.planning.families.tree import Tree
from smartprof.planning.prices import Place
from smartprof.planning.settings import Candidate, Setting
from smartprof.policies.round_prices import round_prices
from smartprof.policies.tree_search import RoundSeconds
from smartprof.profile.cost import CostModel, Costs
from smartprof.profile.quality import DecisionRegret
from smartprof.profile.refits import refitted
from smartprof.profile.schema import Profile
from smartprof.trees.positional import PositionalAcceptance

# Assumed, from a lookup on new text to a good head on easy text.
ASSUMED = ("0.4+0.1", "0.6+0.15+0.05", "0.8+0.1+0.03")
BOUNDS = Bounds(depth=8, nodes=48)
REFITS = 100
LEAST_DRAFT = 2  # tokens per request of the smallest tree


@dataclass(frozen=True, eq=False)
class Menu:
    """All settings for one assumed acceptance, plain decoding first, ready to be priced.

    rows: int64 [settings, steps]; tokens, expected: [settings], as of `Candidate`.
    """

    acceptance: str
    candidates: Sequence[Candidate]
    rows: NDArray[np.int64]
    tokens: NDArray[np.int64]
    expected: NDArray[np.float64]

    @classmethod
    def of(cls, acceptance: str) -> Menu:
        """For rates such as "0.6+0.15/0.5": ranks by +, depths by /."""
        known = Acceptance(PositionalAcceptance.parse(acceptance), "assumed", synthetic=True)
        candidates = Tree().candidates(known, BOUNDS)
        rows = np.zeros((len(candidates), BOUNDS.depth), np.int64)
        for line, candidate in zip(rows, candidates, strict=True):
            line[: len(candidate.rows)] = candidate.rows
        tokens = np.array([1 + x.setting.nodes for x in candidates])
        return cls(acceptance, candidates, rows, tokens, np.array([x.expected for x in candidates]))


@dataclass(frozen=True)
class Decision:
    """One decision: what was picked, what would have been best, and the percent lost by it."""

    place: Place
    acceptance: str
    picked: Setting
    best: Setting
    regret_pct: float


def decisions(
    costs: Costs, truth: Costs, places: Sequence[Place], acceptance: Sequence[str] = ASSUMED
) -> list[Decision]:
    """Every decision by `costs` judged by `truth`, one per place and acceptance.

    Only settings whose verify pass both have measured are looked at. Raises DomainError for a place
    that one of them cannot price.
    """
    menus = [Menu.of(x) for x in acceptance]
    most = min(costs.most_tokens, truth.most_tokens)
    found = []
    for place in places:
        pairs = zip(
            _rates(costs, menus, place, most), _rates(truth, menus, place, most), strict=True
        )
        for menu, (believed, true) in zip(menus, pairs, strict=True):
            picked, best = int(believed.argmax()), int(true.argmax())
            found.append(
                Decision(
                    place,
                    menu.acceptance,
                    menu.candidates[picked].setting,
                    menu.candidates[best].setting,
                    _regret_pct(true, picked),
                )
            )
    return found


def estimated_regret(profile: Profile, refits: int = REFITS) -> DecisionRegret | None:
    """Regret at the batches and contexts of the verify passes, over every drafter of the profile.

    None where there is no decision to take: no drafter, or no room for a draft.
    """
    menus = [Menu.of(x) for x in ASSUMED]
    most = profile.verify.domain.size[1]
    costs = [CostModel(profile, x) for x in profile.drafters]
    places = _priced(_measured(profile), costs, menus)
    if not places:
        return None
    asked = [(source, place) for source in range(len(costs)) for place in places]
    picked = [[int(x.argmax()) for x in _rates(costs[y], menus, z, most)] for y, z in asked]
    random = np.random.default_rng(0)
    losses: list[float] = []
    for _ in range(refits):
        drawn = refitted(profile, random)
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
        acceptance=list(ASSUMED),
        batches=sorted({x.batch for x in places}),
        contexts=sorted({int(x.context) for x in places}),
    )


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
    rates = np.full(len(menu.candidates), -np.inf)
    rounds = prices.parts(menu.rows[fits], menu.tokens[fits], menu.expected[fits])
    rates[fits] = menu.expected[fits] / rounds.total
    rates[0] = 1.0 / prices.verify[1]  # plain decoding has no catch-up
    return rates


def _regret_pct(true_rates: NDArray[np.float64], picked: int) -> float:
    return 100 * (1 - float(true_rates[picked] / true_rates.max()))

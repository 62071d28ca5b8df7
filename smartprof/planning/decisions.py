"""Settings that two profiles would choose at the same places, and what trusting one costs.

For a program that was tuned by one profile and runs where the other holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from smartprof.errors import DomainError
from smartprof.planning.acceptance import Acceptance
from smartprof.planning.families.base import Bounds
from smartprof.planning.families.table import find_family
from smartprof.planning.inputs import measured_batches, measured_contexts
from smartprof.planning.prices import Place, token_rates
from smartprof.planning.settings import Candidate, Setting
from smartprof.profile.cost import CostModel

# A draft that is nearly always right, one that is right more often than not, one that seldom is.
CURVES = (
    "synthetic:0.85+0.05/0.8+0.05/0.75",
    "synthetic:0.65+0.12/0.6+0.1/0.55",
    "synthetic:0.4+0.15/0.35+0.1",
)
FAMILY = "tree"


@dataclass(frozen=True)
class Decision:
    """What each profile chooses at one place.

    by_one, by_other: settings. cost_percent: of the other profile's best rate, lost there by using
    the setting that the first one chose.
    """

    drafter: str
    acceptance: str
    batch: int
    context: float
    by_one: Setting
    by_other: Setting
    cost_percent: float

    @property
    def changes(self) -> bool:
        """Whether they disagree."""
        return self.by_one != self.by_other


def compare_decisions(
    one: CostModel, other: CostModel, acceptances: Sequence[Acceptance]
) -> list[Decision]:
    """The best tree by each, for every acceptance and at every place that both can price.

    one, other: with the same drafter. Places are those of `common_places`; settings that only one
    of the two can price are left out.
    """
    found = []
    for acceptance in acceptances:
        candidates = find_family(FAMILY).candidates(acceptance, Bounds())
        for place in common_places(one, other):
            rates = _rates(one, candidates, place), _rates(other, candidates, place)
            if rates[0] is not None and rates[1] is not None:
                found.append(_decision(one, acceptance, candidates, place, rates[0], rates[1]))
    return found


def common_places(one: CostModel, other: CostModel) -> list[Place]:
    """Batches 1, 2, 4, ... and measured contexts of either, within what both were measured at."""
    profiles = one.profile, other.profile
    shorter = min((measured_batches(x) for x in profiles), key=len)
    most = min(one.most_tokens, other.most_tokens)
    contexts = [measured_contexts(x) for x in profiles]
    low, high = max(x[0] for x in contexts), min(x[-1] for x in contexts)
    shared = sorted({y for x in contexts for y in x if low <= y <= high})
    return [Place(x, y) for y, x in product(shared, shorter) if 2 * x <= most]


def _rates(
    costs: CostModel, candidates: Sequence[Candidate], place: Place
) -> NDArray[np.float64] | None:
    """Tokens per second of each; None where the profile has no price of drafting at the place."""
    try:
        return token_rates(costs, candidates, place)
    except DomainError:
        return None


def _decision(
    costs: CostModel,
    acceptance: Acceptance,
    candidates: Sequence[Candidate],
    place: Place,
    one: NDArray[np.float64],
    other: NDArray[np.float64],
) -> Decision:
    both = np.isfinite(one) & np.isfinite(other)
    ours, best = (int(np.where(both, x, -np.inf).argmax()) for x in (one, other))
    return Decision(
        drafter=str(costs.drafter),
        acceptance=acceptance.origin,
        batch=place.batch,
        context=place.context,
        by_one=candidates[ours].setting,
        by_other=candidates[best].setting,
        cost_percent=float(100 * (1 - other[ours] / other[best])),
    )

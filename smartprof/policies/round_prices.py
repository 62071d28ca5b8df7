"""A profile's seconds as prices of fixed trees, for rules and plans that give every request one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smartprof.policies.tree_search import RoundSeconds

if TYPE_CHECKING:
    from smartprof.profile.cost import Costs


def round_prices(
    costs: Costs,
    batch: int,
    context: float,
    *,
    plain_seconds: float,
    tokens: int,
    rows: int,
    depth: int,
) -> RoundSeconds:
    """Prices by what one of `batch` equal requests has, in seconds of the whole batch's round.

    tokens, rows, depth: most tokens of a tree, root included, most nodes expanded in one step, and
    most layers. plain_seconds: a whole plain round of this batch. Raises DomainError as `costs`.
    """
    total = batch * np.arange(1, tokens + 1)
    verify = costs.verify(batch, total, context) + costs.round_overhead(batch, total)
    verify[0] = plain_seconds
    committed = batch * np.arange(1, depth + 2)
    return RoundSeconds(
        verify=_from_one(verify),
        step=_from_one(costs.draft_step(batch, batch * np.arange(1, rows + 1), context)),
        catchup=_from_one(costs.draft_catchup(batch, committed, context)),
    )


def _from_one(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values for 1, 2, ... at the indices 1, 2, ..."""
    return np.concatenate([[np.nan], values])

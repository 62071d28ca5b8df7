"""Whether a profile can price a run, asked before the run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smartprof.policies.base import Policy, Round
from smartprof.profile.cost import Costs
from smartprof.trees.forest import Forest


def largest_tree(policy: Policy, batch: int) -> int | None:
    """Most tokens of one request in a verify pass, root included, in batches up to this one.

    A batch shrinks when its queue runs out, and a shared budget then leaves more to each request.
    None: the policy sets no limit.
    """
    nodes = [policy.most_nodes(x) for x in range(1, batch + 1)]
    known = [x for x in nodes if x is not None]
    return 1 + max(known) if len(known) == len(nodes) else None


def require_domain(
    costs: Costs, policy: Policy, batch: int, longest: int, sources: Sequence[str]
) -> None:
    """Raise DomainError now rather than in the middle of a run, which may end in smaller batches.

    policy: for this question alone, its state is lost. longest: most committed tokens that one of
    the requests will have. sources: of the drafter.
    """
    costs.plain_decode(batch, longest)
    for rows in range(1, batch + 1):
        nodes = policy.most_nodes(rows)
        tokens = rows * (1 + (nodes or 0))
        costs.verify(rows, tokens, longest)
        costs.round_overhead(rows, tokens)
        if nodes != 0:
            for source in sources:
                _require_drafting(costs.source(source), policy, rows, longest, source)


def _require_drafting(costs: Costs, policy: Policy, batch: int, longest: int, source: str) -> None:
    costs.draft_catchup(batch, batch, longest)
    rows = policy.most_rows(batch, costs.most_tokens)
    if rows != 0:
        costs.draft_step(batch, np.array([1, rows or 1]), longest)
    if rows is None:
        state = _first_round(costs, batch, longest, source)
        policy.grow(state)
        policy.cut(state)


def _first_round(costs: Costs, batch: int, longest: int, source: str) -> Round:
    """Of a batch at the longest context, with room for any tree."""
    return Round(
        forest=Forest.roots(np.zeros(batch, np.int64)),
        context_lens=np.full(batch, longest),
        room=np.full(batch, longest),
        costs=costs,
        plain_seconds=costs.plain_decode(batch, longest),
        drafted_seconds=0.0,
        noted=batch,
        source=source,
    )

"""Whether a profile can price a run, asked before the run."""

from __future__ import annotations

from smartprof.policies.base import Policy
from smartprof.profile.cost import Costs


def largest_tree(policy: Policy, batch: int) -> int | None:
    """Most tokens of one request in a verify pass, root included, in batches up to this one.

    A batch shrinks when its queue runs out, and a shared budget then leaves more to each request.
    None: the policy sets no limit.
    """
    nodes = [policy.most_nodes(x) for x in range(1, batch + 1)]
    known = [x for x in nodes if x is not None]
    return 1 + max(known) if len(known) == len(nodes) else None


def require_domain(costs: Costs, policy: Policy, batch: int, longest: float) -> None:
    """Raise DomainError now rather than in the middle of a run, which may end in smaller batches.

    longest: most committed tokens that one of the requests will have.
    """
    costs.plain_decode(batch, longest)
    for rows in range(1, batch + 1):
        tokens = rows * (1 + (policy.most_nodes(rows) or 0))
        costs.verify(rows, tokens, longest)
        costs.round_overhead(rows, tokens)

"""Whether a profile can price a run, asked before the run."""

from __future__ import annotations

from smartprof.policies.base import Policy
from smartprof.profile.cost import Costs


def require_domain(costs: Costs, policy: Policy, batch: int, longest: float) -> None:
    """Raise DomainError now rather than in the middle of a run.

    longest: most committed tokens that one of the requests will have.
    """
    tokens = batch * (1 + (policy.most_nodes(batch) or 0))
    costs.plain_decode(batch, longest)
    costs.verify(batch, tokens, longest)
    costs.round_overhead(batch, tokens)

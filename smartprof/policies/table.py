"""Policies by name."""

from __future__ import annotations

from smartprof.errors import InputError
from smartprof.policies.base import Policy
from smartprof.policies.cap import Cap
from smartprof.policies.chain import Chain
from smartprof.policies.eagle2 import Eagle2
from smartprof.policies.options import parse_options
from smartprof.policies.plain import Plain
from smartprof.policies.smart import Smart
from smartprof.policies.smart_paper import SmartPaper
from smartprof.policies.static import Static

POLICIES: dict[str, type[Policy]] = {
    x.name: x for x in (Plain, Chain, Static, Eagle2, Cap, SmartPaper, Smart)
}
# Ceilings that know what the target will say.
SIMULATED_ONLY = ("oracle", "oracle-static")


def make_policy(text: str) -> Policy:
    """A fresh policy from its name and options, such as ``eagle2:m=16:depth=4:k=8``.

    Raises InputError naming the known policies or the policy's options.
    """
    name, *parts = text.strip().split(":")
    if name in SIMULATED_ONLY:
        raise InputError(
            f"expected a policy of {', '.join(POLICIES)}, got {text.strip()!r}, which knows what "
            "the target will say: only `smartprof simulate` has it, without options"
        )
    if name not in POLICIES:
        raise InputError(f"expected a policy of {', '.join(POLICIES)}, got {name!r}")
    policy_type = POLICIES[name]
    return policy_type(parse_options(name, policy_type.options_type, parts))

"""Policies by name."""

from __future__ import annotations

from smartprof.errors import InputError
from smartprof.policies.base import Policy
from smartprof.policies.cap import Cap
from smartprof.policies.chain import Chain
from smartprof.policies.eagle2 import Eagle2
from smartprof.policies.options import parse_options
from smartprof.policies.own import SUFFIX, load_policy
from smartprof.policies.plain import Plain
from smartprof.policies.smart import Smart
from smartprof.policies.smart_paper import SmartPaper
from smartprof.policies.smart_without import SmartWithout
from smartprof.policies.static import Static

POLICIES: dict[str, type[Policy]] = {
    x.name: x for x in (Plain, Chain, Static, Eagle2, Cap, SmartPaper, Smart, SmartWithout)
}
# Ceilings that know what the target will say: made where that is known.
SIMULATED_ONLY = ("oracle", "oracle-static")


def make_policy(text: str) -> Policy:
    """A fresh policy from its name and options, such as ``eagle2:m=16:depth=4:k=8``.

    The name of a Python file stands for the policy that it defines. Raises InputError naming the
    known policies or the policy's options.
    """
    name, *parts = text.strip().split(":")
    policy_type = load_policy(name) if name.endswith(SUFFIX) else POLICIES.get(name)
    if policy_type is None:
        known = ", ".join(POLICIES)
        ceiling = " (a ceiling that only `smartprof simulate` has)" * (name in SIMULATED_ONLY)
        raise InputError(f"expected a policy of {known}, or a file {SUFFIX}, got {name!r}{ceiling}")
    return policy_type(parse_options(policy_type.name, policy_type.options_type, parts))

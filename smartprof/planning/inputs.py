"""What a plan starts from: a drafter that the profile prices, and places it was measured at."""

from __future__ import annotations

from smartprof.errors import InputError, ProfileError
from smartprof.profile.cost import CostModel
from smartprof.profile.schema import Profile


def open_costs(profile: Profile, drafter: str | None) -> CostModel:
    """Seconds with one drafter, by default the profile's only one.

    Raises ProfileError if the profile prices no such drafter or none, InputError if it prices
    several and none is named.
    """
    known = ", ".join(sorted(profile.drafters))
    if not known:
        raise ProfileError(
            "expected a profile with draft_step and draft_catchup of a drafter, got none: "
            "calibrate with --drafter"
        )
    if drafter is None and len(profile.drafters) > 1:
        raise InputError(f"expected --drafter, one of {known}: the profile prices several")
    return CostModel(profile, drafter or known)


def measured_batches(profile: Profile) -> tuple[int, ...]:
    """1, 2, 4, ... up to the largest batch that was measured."""
    largest = largest_batch(profile)
    return tuple(2**x for x in range(largest.bit_length()))


def measured_contexts(profile: Profile) -> tuple[float, ...]:
    """Contexts of the measured verify passes, ascending."""
    return tuple(sorted({float(x.context or 0) for x in profile.verify.curves}))


def middle_context(profile: Profile) -> float:
    """The measured context in the middle, the smaller one of two."""
    contexts = measured_contexts(profile)
    return contexts[(len(contexts) - 1) // 2]


def largest_batch(profile: Profile) -> int:
    """Of the measured verify passes."""
    return max(x.batch or 1 for x in profile.verify.curves)

"""What a difference between a profile's key and what is here does, field by field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, get_args

from smartprof.profile.describe import shown
from smartprof.profile.schema import Key

# modelled: another device or target; the profile's seconds hold there, not here.
# refused: the same device and target, run in another way than was measured.
# warned: the same, with a small doubt.
# follows: says nothing that another field does not say.
Consequence = Literal["modelled", "refused", "warned", "follows"]

CONSEQUENCES: dict[str, Consequence] = {
    "device.kind": "modelled",
    "device.name": "modelled",
    "device.capability": "modelled",
    "device.threads": "modelled",
    "device.memory_bytes": "warned",
    "device.uuid_digest": "warned",
    "device.driver": "warned",
    "software.python": "warned",
    "software.torch": "warned",
    "software.smartprof": "warned",
    "software.cuda": "warned",
    "target.name": "warned",
    "target.digest": "refused",  # under the same name; under another it is another target: modelled
    "target.parameters": "follows",  # from the digest
    "dtype": "refused",
    "execution": "refused",
    "capture_sizes": "warned",
}
# Of a device or target that is not here these belong to the profile: nobody asks for them here.
HOW_IT_RUNS = ("dtype", "execution")
SAME_MEMORY = 0.02  # what an operating system keeps for itself differs from start to start


@dataclass(frozen=True)
class KeyMatch:
    """What the differences do.

    device_match: the profile's device and target are those here, so its seconds can be set beside
    measured ones. If not, everything is to be labelled modelled, and `modelled` says why. A profile
    with anything in `refused` must not be used.
    """

    device_match: bool
    refused: list[str]
    warnings: list[str]
    modelled: list[str]


def compare_keys(profile_key: Key, here_key: Key) -> KeyMatch:
    """Compare a profile's key with that of the device, target and mode asked for here."""
    differing = [x for x in CONSEQUENCES if _differs(x, profile_key, here_key)]
    elsewhere = any(_consequence(x, differing) == "modelled" for x in differing)
    lines: dict[str, list[str]] = {x: [] for x in get_args(Consequence)}
    for field in differing:
        own_affair = elsewhere and field in HOW_IT_RUNS
        consequence = "follows" if own_affair else _consequence(field, differing)
        lines[consequence].append(_line(field, profile_key, here_key))
    return KeyMatch(
        device_match=not elsewhere,
        refused=lines["refused"],
        warnings=[] if elsewhere else lines["warned"],
        modelled=lines["modelled"],
    )


def _consequence(field: str, differing: list[str]) -> Consequence:
    if field == "target.digest" and "target.name" in differing:
        return "modelled"
    return CONSEQUENCES[field]


def _differs(field: str, profile_key: Key, here_key: Key) -> bool:
    values = _value(profile_key, field), _value(here_key, field)
    return not SAME.get(field, _equal)(*values)


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other)


def _near(one: int, other: int) -> bool:
    return abs(one - other) <= SAME_MEMORY * max(one, other)


SAME: dict[str, Callable[[Any, Any], bool]] = {"device.memory_bytes": _near}


def _value(key: Key, field: str) -> Any:
    return reduce(getattr, field.split("."), key)


def _line(field: str, profile_key: Key, here_key: Key) -> str:
    profile_value, here_value = _value(profile_key, field), _value(here_key, field)
    name = field.replace("_", " ").replace(".", " ")
    if isinstance(profile_value, list):
        return f"{name}: the profile has {profile_value}, here are {here_value}"
    return f"{name}: the profile has {shown(profile_value)}, here is {shown(here_value)}"

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


@dataclass(frozen=True)
class Difference:
    """A field of the key in which two keys differ, the value of each, and what that does."""

    field: str
    one: Any
    other: Any
    consequence: Consequence

    def text(self, one: str, other: str) -> str:
        """In a sentence, after words that say whose value it is: "the profile has"."""
        name = self.field.replace("_", " ").replace(".", " ")
        return f"{name}: {one} {_value_text(self.one)}, {other} {_value_text(self.other)}"


def key_differences(one: Key, other: Key) -> list[Difference]:
    """The fields in which they differ, in the order of `CONSEQUENCES`."""
    differing = [x for x in CONSEQUENCES if _differs(x, one, other)]
    elsewhere = any(_consequence(x, differing) == "modelled" for x in differing)
    return [
        Difference(
            field,
            _value(one, field),
            _value(other, field),
            "follows" if elsewhere and field in HOW_IT_RUNS else _consequence(field, differing),
        )
        for field in differing
    ]


def compare_keys(profile_key: Key, here_key: Key) -> KeyMatch:
    """Compare a profile's key with that of the device, target and mode asked for here."""
    lines: dict[str, list[str]] = {x: [] for x in get_args(Consequence)}
    for found in key_differences(profile_key, here_key):
        here = "here are" if isinstance(found.other, list) else "here is"
        lines[found.consequence].append(found.text("the profile has", here))
    elsewhere = bool(lines["modelled"])
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


def _value_text(value: Any) -> str:
    return str(value) if isinstance(value, list) else shown(value)

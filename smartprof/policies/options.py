"""Options of policies: typed fields with bounds, read from text such as ``m=16:depth=4``."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from smartprof.errors import InputError

OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True)
class NoOptions:
    """For policies without options."""


def whole(default: int, least: int, most: int, meaning: str) -> Any:
    """An integer option of a frozen options dataclass."""
    return field(default=default, metadata={"least": least, "most": most, "meaning": meaning})


def real(default: float, least: float, most: float, meaning: str) -> Any:
    """A float option of a frozen options dataclass."""
    return field(default=default, metadata={"least": least, "most": most, "meaning": meaning})


def parse_options(policy: str, options_type: type[OptionsT], parts: list[str]) -> OptionsT:
    """Options from ``key=value`` parts.

    Raises InputError, one line listing the options, for an unknown or repeated option, a value of
    the wrong type and one outside its bounds.
    """
    known = {x.name: x for x in fields(options_type)}  # type: ignore[arg-type]
    chosen: dict[str, Any] = {}
    for part in parts:
        key, separator, text = part.partition("=")
        if not separator or key not in known:
            raise _refusal(policy, options_type, f"unknown option {part!r}")
        if key in chosen:
            raise _refusal(policy, options_type, f"option {key!r} given twice")
        chosen[key] = _value(policy, options_type, key, text)
    return options_type(**chosen)


def describe_options(options_type: type[Any]) -> str:
    """The options with defaults, bounds and meanings, in one line."""
    described = [
        f"{x.name}={x.default} ({x.metadata['least']} to {x.metadata['most']}: "
        f"{x.metadata['meaning']})"
        for x in fields(options_type)
    ]
    return ", ".join(described) or "none"


def _value(policy: str, options_type: type[Any], key: str, text: str) -> int | float:
    option = next(x for x in fields(options_type) if x.name == key)
    kind = int if isinstance(option.default, int) else float
    try:
        value = kind(text)
    except ValueError:
        raise _refusal(policy, options_type, f"{key}={text!r} is no {kind.__name__}") from None
    # not "value < least or value > most": that would let NaN through
    if not option.metadata["least"] <= value <= option.metadata["most"]:
        raise _refusal(policy, options_type, f"{key}={text} is out of bounds")
    return value


def _refusal(policy: str, options_type: type[Any], fault: str) -> InputError:
    return InputError(f"policy {policy}: {fault}; its options: {describe_options(options_type)}")

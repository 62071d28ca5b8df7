"""Options of policies: typed fields with bounds, read from text such as ``m=16:depth=4``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar

from smartprof.errors import InputError

OptionsT = TypeVar("OptionsT")
KIND = "kind"  # where the metadata of an option's field say what it takes


@dataclass(frozen=True)
class NoOptions:
    """For policies without options."""


@dataclass(frozen=True)
class Kind:
    """What an option takes.

    name: of the type. range: what is allowed, in words. read: the value of a text, or ValueError
    with the rest of a sentence that begins with the option's name and an equals sign.
    """

    name: str
    range: str
    meaning: str
    read: Callable[[str], Any]


@dataclass(frozen=True)
class OptionText:
    """An option as a person reads it."""

    name: str
    kind: str
    range: str
    default: str
    meaning: str


def whole(default: int, least: int, most: int, meaning: str) -> Any:
    """An integer option of a frozen options dataclass."""
    return _number(int, default, least, most, meaning)


def real(default: float, least: float, most: float, meaning: str) -> Any:
    """A float option of a frozen options dataclass."""
    return _number(float, default, least, most, meaning)


def one_of(default: str, others: tuple[str, ...], meaning: str) -> Any:
    """An option of a frozen options dataclass that takes one of a few words."""
    words = (default, *others)

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}")
        return text

    return field(default=default, metadata={KIND: Kind("word", " or ".join(words), meaning, read)})


def parse_options(policy: str, options_type: type[OptionsT], parts: list[str]) -> OptionsT:
    """Options from ``key=value`` parts.

    Raises InputError, one line listing the options, for an unknown or repeated option, a value of
    the wrong type, one outside its bounds, and options that contradict each other (a ValueError of
    the options type).
    """
    known = {x.name: x for x in _fields(options_type)}
    chosen: dict[str, Any] = {}
    for part in parts:
        key, separator, text = part.partition("=")
        if not separator or key not in known:
            raise _refusal(policy, options_type, f"unknown option {part!r}")
        if key in chosen:
            raise _refusal(policy, options_type, f"option {key!r} given twice")
        try:
            chosen[key] = _kind(known[key]).read(text)
        except ValueError as error:
            raise _refusal(policy, options_type, f"{key}={error}") from None
    try:
        return options_type(**chosen)
    except ValueError as error:
        raise _refusal(policy, options_type, str(error)) from None


def list_options(options_type: type[Any]) -> list[OptionText]:
    """The options in their order."""
    return [
        OptionText(
            name=x.name,
            kind=_kind(x).name,
            range=_kind(x).range,
            default="none" if x.default is None else str(x.default),
            meaning=_kind(x).meaning,
        )
        for x in _fields(options_type)
    ]


def describe_options(options_type: type[Any]) -> str:
    """The options with defaults, bounds and meanings, in one line."""
    described = [
        f"{x.name}={x.default} ({x.range}: {x.meaning})" for x in list_options(options_type)
    ]
    return ", ".join(described) or "none"


def _number(
    kind: type[int] | type[float], default: float, least: float, most: float, meaning: str
) -> Any:
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise ValueError(f"{text!r} is no {kind.__name__}") from None
        # not "value < least or value > most": that would let NaN through
        if not least <= value <= most:
            raise ValueError(f"{text} is out of bounds")
        return value

    described = Kind(kind.__name__, f"{least} to {most}", meaning, read)
    return field(default=default, metadata={KIND: described})


def _fields(options_type: type[Any]) -> tuple[Field[Any], ...]:
    return fields(options_type)


def _kind(known: Field[Any]) -> Kind:
    kind: Kind = known.metadata[KIND]
    return kind


def _refusal(policy: str, options_type: type[Any], fault: str) -> InputError:
    return InputError(f"policy {policy}: {fault}; its options: {describe_options(options_type)}")

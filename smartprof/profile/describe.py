"""What pydantic found wrong with a profile, in one short line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from smartprof.errors import InputError

MOST_CHARACTERS = 60


def first_error(error: ValidationError) -> str:
    """Where the first error is, what was expected and what came; '(+3 more)' for the others."""
    errors = error.errors(include_url=False)
    more = f" (+{len(errors) - 1} more)" if len(errors) > 1 else ""
    first = errors[0]
    where = _location(first["loc"])
    return f"{where}{': ' if where else ''}{_complaint(first)}{more}"


@contextmanager
def made_of(what: str) -> Iterator[None]:
    """Around parts of a profile made of what a user gave: what they refuse is an InputError."""
    try:
        yield
    except ValidationError as error:
        raise InputError(f"{what}: {first_error(error)}") from error


def shown(value: object) -> str:
    """A value in a few printable characters; of a nested one only its kind."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if value is None:
        return "null"
    if isinstance(value, int) and abs(value) >= 10**MOST_CHARACTERS:
        return f"a number of {value.bit_length()} bits"
    text = str(value).lower() if isinstance(value, bool) else ascii(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."


def _location(parts: Sequence[int | str]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{_shortened(part)}"
    return text.removeprefix(".")


def _complaint(error: Any) -> str:
    if error["type"] == "missing":
        return "expected this field, got nothing"
    if error["type"] == "extra_forbidden":
        return "expected no such field"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    message = error["msg"].replace("Input should be ", "expected ")
    return f"{message[0].lower()}{message[1:]}, got {shown(error['input'])}"


def _shortened(name: str) -> str:
    printable = ascii(name)[1:-1]
    return printable if len(printable) <= MOST_CHARACTERS else f"{printable[:MOST_CHARACTERS]}..."

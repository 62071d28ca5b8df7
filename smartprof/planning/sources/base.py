"""What a source of acceptance is, and what several of them need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smartprof.errors import InputError
from smartprof.planning.acceptance import Acceptance

HALVINGS = 60  # of an interval of length 1: finer than a double


@dataclass(frozen=True)
class Source:
    """One kind of text after `--acceptance`.

    name: what stands before the colon. form: what stands behind it. meaning: in a few words.
    read: an Acceptance of what stands behind the colon, or InputError in one line.
    """

    name: str
    form: str
    meaning: str
    read: Callable[[str], Acceptance]


def read_text(path: Path, wanted: str) -> str:
    """A file's text; InputError, one line, if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"{path}: expected {wanted}, cannot be read ({reason})") from error


def constant_rate(tokens: float, drafted: int) -> float:
    """The conditional rate p for which a chain of `drafted` tokens has so many accepted.

    Solves p + p**2 + ... + p**drafted = tokens, 0 <= tokens <= drafted, by bisection.
    """
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if sum(middle**x for x in range(1, drafted + 1)) < tokens:
            low = middle
        else:
            high = middle
    return high

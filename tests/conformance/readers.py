"""What a reader is to a vector, and the two readers in Python: the library and the one to copy."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Protocol

from smartprof.errors import DomainError, InputError, ProfileError
from smartprof.profile.cost import CostModel
from smartprof.profile.files import parse_profile

ROOT = Path(__file__).parents[2]
VENDORED = ROOT / "profiles" / "read_profile.py"


class Opened(Protocol):
    """A profile in a reader. Its methods raise LookupError outside the domain, else ValueError."""

    def seconds(
        self, quantity: str, batch: int, size: int, context: float | None, drafter: str | None
    ) -> tuple[float, str]:
        """Seconds and tier."""

    def envelope(self, batch: int, tokens: int, context: float) -> tuple[float, int]:
        """Seconds and tokens to run."""


class Library:
    """smartprof itself."""

    def __init__(self, text: str) -> None:
        try:
            self.profile = parse_profile(text, "vector")
        except ProfileError as error:
            raise ValueError(error) from error

    def seconds(
        self, quantity: str, batch: int, size: int, context: float | None, drafter: str | None
    ) -> tuple[float, str]:
        """By `CostModel.predict`."""
        try:
            found = CostModel(self.profile, drafter).predict(quantity, batch, size, context)
        except (DomainError, InputError, ProfileError) as error:
            raise _standard(error) from error
        return found.seconds, found.tier

    def envelope(self, batch: int, tokens: int, context: float) -> tuple[float, int]:
        """The last entry of `CostModel.verify_envelope` up to these tokens."""
        try:
            found = CostModel(self.profile).verify_envelope(batch, tokens, context)
        except (DomainError, InputError) as error:
            raise _standard(error) from error
        return float(found.seconds[-1]), int(found.pad_to[-1])


def load_vendored(source: str | None = None) -> Any:
    """The module read_profile.py, or what `source`, a changed text of it, makes."""
    spec = importlib.util.spec_from_loader("read_profile", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    exec(compile(source or VENDORED.read_text(), str(VENDORED), "exec"), module.__dict__)
    return module


def _standard(error: Exception) -> Exception:
    return LookupError(error) if isinstance(error, DomainError) else ValueError(error)

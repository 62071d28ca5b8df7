"""Drafters by name."""

from __future__ import annotations

from collections.abc import Callable

from smartprof.drafters.base import Drafter
from smartprof.drafters.ngram import NgramDrafter
from smartprof.errors import InputError

DRAFTERS: dict[str, Callable[[], Drafter]] = {NgramDrafter.name: NgramDrafter}


def make_drafter(name: str) -> Drafter:
    """A fresh drafter; InputError naming the known ones."""
    if name not in DRAFTERS:
        raise InputError(f"expected a drafter of {', '.join(DRAFTERS)}, got {name!r}")
    return DRAFTERS[name]()

"""From the document of an older version to that of the next one, up to the present.

A migration adds what the older version did not tell, as null; it never changes a value. What does
not look as expected it leaves alone: validation follows and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

from smartprof.profile.schema import SCHEMA_VERSION, Quantity

VERSION = "schema_version"
INTERVALS = ("free_tokens_10_interval", "free_tokens_50_interval")
QUALITY = ("first_draw", "repeatability", "regret", "outliers", "drifts")


def migrated(document: dict[str, Any]) -> dict[str, Any]:
    """The same profile as a document of the present version; `document` is of a known one.

    Raises ValueError where it has a field that its version does not know.
    """
    while document[VERSION] != SCHEMA_VERSION:
        document = MIGRATIONS[document[VERSION]](document)
    return document


def _from_1(document: dict[str, Any]) -> dict[str, Any]:
    for curve in _curves(document):
        _add(curve, INTERVALS)
    quality = document.get("quality")
    if isinstance(quality, dict):
        _add(quality, QUALITY)
    return document | {VERSION: 2}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
VERSIONS = (*MIGRATIONS, SCHEMA_VERSION)


def _add(part: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if name in part:
            raise ValueError(f"expected no {name} in this version")
        part[name] = None


def _curves(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those of all surfaces."""
    drafters = document.get("drafters")
    owners = [document, *(drafters.values() if isinstance(drafters, dict) else ())]
    for owner in (x for x in owners if isinstance(x, dict)):
        for surface in (owner.get(x) for x in get_args(Quantity)):
            curves = surface.get("curves") if isinstance(surface, dict) else None
            if isinstance(curves, list):
                yield from (x for x in curves if isinstance(x, dict))

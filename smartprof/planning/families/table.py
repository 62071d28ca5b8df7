"""Families of settings by name."""

from __future__ import annotations

from smartprof.errors import InputError
from smartprof.planning.families.base import Family
from smartprof.planning.families.chain import Chain
from smartprof.planning.families.tree import Tree

FAMILIES: dict[str, Family] = {x.name: x for x in (Chain(), Tree())}


def find_family(name: str) -> Family:
    """By name. Raises InputError naming them all."""
    if name not in FAMILIES:
        known = " or ".join(f"{x.name} ({x.summary})" for x in FAMILIES.values())
        raise InputError(f"expected --family {known}, got {name!r}")
    return FAMILIES[name]

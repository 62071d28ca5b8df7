"""The text of a profile: strict JSON, its canonical form, and the checksum over that.

profiles/SCHEMA.md, "Checksum", says how the canonical form is made, so that any language can.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NoReturn

CHECKSUM = "checksum"


class _Literal(str):
    """A number as written."""


def parse_strictly(text: str) -> Any:
    """JSON without NaN, Infinity and duplicate keys. Raises ValueError, also on deep nesting."""
    return _parsed(text, literals=False)


def checksum(text: str) -> str:
    """Checksum of a JSON object in its canonical form. Raises ValueError if it is none."""
    value = _parsed(text, literals=True)
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")
    rest = {x: y for x, y in value.items() if x != CHECKSUM}
    try:
        canonical = _canonical(rest)
    except RecursionError as error:
        raise ValueError("expected a few levels of nesting, got too many") from error
    return f"sha256:{hashlib.sha256(canonical.encode('ascii')).hexdigest()}"


def readable(value: Any, indent: str = "") -> str:
    """JSON for people and diffs: an object or list without nested ones stands on one line."""
    members = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (dict, list)) or not any(isinstance(x, (dict, list)) for x in members):
        return json.dumps(value, allow_nan=False)
    deeper = indent + " "
    if isinstance(value, dict):
        lines = [f"{json.dumps(x)}: {readable(y, deeper)}" for x, y in value.items()]
    else:
        lines = [readable(x, deeper) for x in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{deeper}" + f",\n{deeper}".join(lines) + f"\n{indent}{closing}"


def _parsed(text: str, literals: bool) -> Any:
    number = _Literal if literals else None
    try:
        return json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=number,
            parse_int=number,
        )
    except RecursionError as error:
        raise ValueError("expected a few levels of nesting, got too many") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"expected each key once, got {ascii(key)[:60]} twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"expected finite numbers, got {name}")


def _canonical(value: Any) -> str:
    if isinstance(value, _Literal):
        return str(value)
    if isinstance(value, dict):
        return (
            "{" + ",".join(f"{json.dumps(x)}:{_canonical(value[x])}" for x in sorted(value)) + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    return json.dumps(value)

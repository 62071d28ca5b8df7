"""Writes the last section of docs/policies.md from the policies as they stand: `make docs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from markdown_tables import table

from smartprof.policies.options import list_options
from smartprof.policies.table import POLICIES

TARGET = Path(__file__).parents[1] / "docs" / "policies.md"
MARK = "<!-- What follows is written from the policies themselves by `make docs`. -->\n"


def with_options(page: str) -> str:
    """The page with everything after the mark written anew; ValueError if it has no mark."""
    if MARK not in page:
        raise ValueError(f"expected the line {MARK.strip()!r} in {TARGET.name}")
    return page[: page.index(MARK)] + MARK + "\n" + "\n".join(_table()) + "\n"


def _table() -> Iterator[str]:
    yield "After colons, as in `eagle2:m=16:depth=6`. Policies that are not listed take none.\n"
    rows = (
        (f"`{name}`", f"`{x.name}`", f"{x.kind}, {x.range}", x.default, x.meaning)
        for name, policy in POLICIES.items()
        for x in list_options(policy.options_type)
    )
    yield from table(("policy", "option", "takes", "default", "meaning"), rows)


if __name__ == "__main__":
    TARGET.write_text(with_options(TARGET.read_text(encoding="utf-8")), encoding="utf-8")

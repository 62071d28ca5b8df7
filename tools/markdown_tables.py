"""Tables of the generated parts of docs/."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield _row(heads)
    yield "|" + "---|" * len(heads)
    for cells in rows:
        yield _row([" ".join(x.split()).replace("|", "\\|") for x in cells])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

"""Tables that users write: rows with the numbers of their lines, and cells as numbers."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from smartprof.errors import InputError

Row = Mapping[str | None, str]


@dataclass(frozen=True)
class CsvFile:
    """Columns as the file has them, and rows with the numbers of their lines."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int, Row], ...]


def read_csv(path: Path, wanted: Sequence[str], what: str) -> CsvFile:
    """A CSV with at least these columns and one row; `what` says in errors what its rows are.

    Raises InputError for a file that is none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(StringIO(text), restval="", strict=True, skipinitialspace=True)
        rows: list[tuple[int, Row]] = [(reader.line_num, x) for x in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: expected a CSV of {what}, got: {error}") from error
    columns = list(reader.fieldnames or [])
    missing = ", ".join(x for x in wanted if x not in columns)
    if missing or not rows:
        raise InputError(
            f"{path}: expected rows with columns {','.join(wanted)}, missing {missing or 'rows'}"
        )
    twice = next((x for x in columns if x and columns.count(x) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: expected each column once, got {twice!r} twice")
    return CsvFile(tuple(columns), tuple(rows))


def require_no_extra(row: Row) -> None:
    """Raise InputError for more cells than columns; a comma at the end of a line does no harm."""
    extra = row.get(None)
    if extra is not None and any(extra):
        raise InputError(f"expected as many cells as there are columns, got {extra!r} as well")


def whole(text: str, column: str) -> int | None:
    """A whole number; None for an empty cell."""
    found = number(text, column)
    if found is None:
        return None
    if not found.is_integer():
        raise InputError(f"expected a whole number of {column}, got {text!r}")
    return int(found)


def number(text: str, column: str) -> float | None:
    """A finite number; None for an empty cell."""
    if not text.strip():
        return None
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise InputError(f"expected a number of {column}, got {text!r}")
    return found

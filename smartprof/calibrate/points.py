"""Timings that somebody else measured, read from a CSV: one row a repetition."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from smartprof.csv_files import Row, number, read_csv, require_no_extra, whole
from smartprof.errors import InputError
from smartprof.profile.scalars import LEAST_SECONDS, MOST_COUNT, MOST_SECONDS, Quantity
from smartprof.profile.schema import AXES

COLUMNS = ("quantity", "batch", "tokens", "context", "seconds")
REPEAT = "repeat"
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)

Place = tuple[int, int, int]  # batch, size, context; context 0 where the quantity has none
Samples = dict[Place, list[float]]


@dataclass(frozen=True)
class Points:
    """name, digest: of the file, the digest the first 16 hex digits of its sha256. samples: seconds
    of each repetition, by quantity and place.
    """

    name: str
    digest: str
    samples: dict[Quantity, Samples]

    @property
    def rows(self) -> int:
        """Repetitions in all."""
        return sum(len(y) for x in self.samples.values() for y in x.values())


def read_points(path: Path) -> Points:
    """Rows `quantity,batch,tokens,context,seconds[,repeat]`; other columns are not looked at.

    tokens: rows of draft_step, accepted tokens of draft_catchup; none needed of plain_decode, which
    has one per request. context: none needed of round_overhead. repeat: numbers the rows of a
    point; the same twice is refused, as a row that was copied by mistake would be.
    Raises InputError for a file or row that cannot be used, naming the line.
    """
    table = read_csv(path, COLUMNS, "timings")
    samples: dict[Quantity, Samples] = {}
    seen: dict[tuple[Quantity, Place, str], int] = {}
    for line, row in table.rows:
        try:
            quantity, place, seconds = _read_row(row)
            if REPEAT in table.columns:
                _require_new(seen, (quantity, place, row[REPEAT].strip()), line)
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        samples.setdefault(quantity, {}).setdefault(place, []).append(seconds)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return Points(path.name, digest, samples)


def _read_row(row: Row) -> tuple[Quantity, Place, float]:
    require_no_extra(row)
    name = row["quantity"].strip()
    quantity = next((x for x in QUANTITIES if x == name), None)
    if quantity is None:
        raise InputError(f"expected a quantity of {', '.join(QUANTITIES)}, got {name!r}")
    batch = _count(row["batch"], "batch", 1)
    return quantity, (batch, _size(quantity, batch, row), _context(quantity, row)), _seconds(row)


def _size(quantity: Quantity, batch: int, row: Row) -> int:
    text = row["tokens"]
    if quantity == "plain_decode":
        if text.strip() and _count(text, "tokens", 1) != batch:
            raise InputError(f"plain_decode: expected one token per request, {batch}, got {text}")
        return batch
    size = _count(text, "tokens", 1)
    if quantity != "draft_step" and size < batch:
        raise InputError(
            f"{quantity}: expected at least one token per request, {batch} in all, got {size}"
        )
    return size


def _context(quantity: Quantity, row: Row) -> int:
    return _count(row["context"], "context", 0) if AXES[quantity].context else 0


def _seconds(row: Row) -> float:
    seconds = number(row["seconds"], "seconds")
    if seconds is None or not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise InputError(f"expected seconds above 0, got {row['seconds']!r}")
    return seconds


def _count(text: str, column: str, least: int) -> int:
    found = whole(text, column)
    if found is None or not least <= found <= MOST_COUNT:
        raise InputError(f"expected {column} from {least}, got {text!r}")
    return found


def _require_new(
    seen: dict[tuple[Quantity, Place, str], int], key: tuple[Quantity, Place, str], line: int
) -> None:
    if key in seen:
        raise InputError(
            f"expected another {REPEAT} than in line {seen[key]}, which is of the same point, got "
            f"{key[2]!r} again"
        )
    seen[key] = line

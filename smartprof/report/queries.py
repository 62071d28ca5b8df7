"""Answers to `smartprof predict`: one query, or a CSV of them."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from smartprof.errors import InputError, SmartprofError
from smartprof.format import seconds_text
from smartprof.profile.cost import CostModel, Prediction
from smartprof.profile.schema import AXES, Profile

COLUMNS = ("quantity", "batch", "tokens", "context")
ANSWERS = ("seconds", "tier")
NEEDS_DRAFTER = ("draft_step", "draft_catchup")

Row = Mapping[str | None, str]


def answer_one(
    profile: Profile,
    drafter: str,
    quantity: str,
    batch: int | None,
    tokens: int | None,
    context: float | None,
) -> str:
    """One line: seconds, and how they were found."""
    found = _predict(_costs(profile, drafter, quantity), quantity, batch, tokens, context)
    origin = "" if found.provenance == "measured" else f", {found.provenance} profile"
    return f"{found.seconds:.9g} s ({seconds_text(found.seconds)}), {found.tier}{origin}"


def answer_queries(profile: Profile, drafter: str, path: Path) -> str:
    """CSV of the queries with columns seconds and tier added, in the order given.

    Raises InputError for a file, a column or a cell that cannot be used, naming the line: no row
    is left out.
    """
    columns, rows = _read(path)
    costs: dict[str, CostModel] = {}
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    own = [x for x in columns if x not in ANSWERS]
    writer.writerow([*own, *ANSWERS])
    for line, row in rows:
        try:
            quantity = row["quantity"].strip()
            if quantity not in costs:
                costs[quantity] = _costs(profile, drafter, quantity)
            found = _answer(costs[quantity], quantity, row)
        except SmartprofError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        writer.writerow([*(row[x] for x in own), found.seconds, found.tier])
    return text.getvalue()


def _read(path: Path) -> tuple[list[str], list[tuple[int, Row]]]:
    """Columns, and rows with the numbers of their lines."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(StringIO(text), restval="", strict=True, skipinitialspace=True)
        rows: list[tuple[int, Row]] = [(reader.line_num, x) for x in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: expected a CSV of queries, got: {error}") from error
    columns = list(reader.fieldnames or [])
    missing = ", ".join(x for x in COLUMNS if x not in columns)
    if missing or not rows:
        raise InputError(
            f"{path}: expected rows with columns {','.join(COLUMNS)}, missing {missing or 'rows'}"
        )
    return columns, rows


def _costs(profile: Profile, drafter: str, quantity: str) -> CostModel:
    if quantity not in AXES:
        raise InputError(f"expected a quantity of {', '.join(AXES)}, got {quantity!r}")
    return CostModel(profile, drafter if quantity in NEEDS_DRAFTER else None)


def _answer(costs: CostModel, quantity: str, row: Row) -> Prediction:
    extra = row.get(None)
    if extra is not None and any(extra):  # a comma at the end of a line does no harm
        raise InputError(f"expected as many cells as there are columns, got {extra!r} as well")
    return _predict(
        costs,
        quantity,
        _whole(row["batch"], "batch"),
        _whole(row["tokens"], "tokens"),
        _number(row["context"], "context"),
    )


def _predict(
    costs: CostModel, quantity: str, batch: int | None, tokens: int | None, context: float | None
) -> Prediction:
    size = batch if quantity == "plain_decode" else tokens
    if quantity == "round_overhead":
        context = 0.0  # the quantity has no context axis
    wanted = {"batch": batch, "tokens": size, "context": context}
    absent = [x for x, y in wanted.items() if y is None]
    if batch is None or size is None or context is None:
        raise InputError(f"{quantity}: expected {' and '.join(absent)} as well, got none")
    return costs.predict(quantity, batch, size, context)


def _whole(text: str, column: str) -> int | None:
    number = _number(text, column)
    if number is None:
        return None
    if not number.is_integer():
        raise InputError(f"expected a whole number of {column}, got {text!r}")
    return int(number)


def _number(text: str, column: str) -> float | None:
    """None for an empty cell."""
    if not text.strip():
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"expected a number of {column}, got {text!r}")
    return number

"""Answers to `smartprof predict`: one query, or a CSV of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from smartprof.errors import InputError
from smartprof.format import seconds_text
from smartprof.profile.cost import CostModel, Prediction
from smartprof.profile.schema import Profile

COLUMNS = ["quantity", "batch", "tokens", "context"]
NEEDS_DRAFTER = ("draft_step", "draft_catchup")


def answer_one(
    profile: Profile,
    drafter: str,
    quantity: str,
    batch: int | None,
    tokens: int | None,
    context: float | None,
) -> str:
    """One line: seconds, and how they were found."""
    found = _predict(profile, drafter, quantity, batch, tokens, context)
    return f"{found.seconds:.9g} s ({seconds_text(found.seconds)}), {found.tier}"


def answer_queries(profile: Profile, drafter: str, path: Path) -> str:
    """CSV of the queries with columns seconds and tier added, in the order given.

    Raises InputError for a file, a column or a cell that cannot be used: no row is left out.
    """
    try:
        queries = pd.read_csv(path)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path}: expected a CSV of queries, got: {error}") from error
    missing = [x for x in COLUMNS if x not in queries.columns]
    if missing or queries.empty:
        raise InputError(
            f"{path}: expected rows with columns {','.join(COLUMNS)}, missing {missing or 'rows'}"
        )
    answers = []
    for line, row in enumerate(queries[COLUMNS].to_dict("records"), 2):
        batch, tokens = (_whole(row[x], x, path, line) for x in ("batch", "tokens"))
        context = None if pd.isna(row["context"]) else _number(row["context"], path, line)
        answers.append(_predict(profile, drafter, str(row["quantity"]), batch, tokens, context))
    queries["seconds"] = [x.seconds for x in answers]
    queries["tier"] = [x.tier for x in answers]
    return queries.to_csv(index=False)


def _predict(
    profile: Profile,
    drafter: str,
    quantity: str,
    batch: int | None,
    tokens: int | None,
    context: float | None,
) -> Prediction:
    costs = CostModel(profile, drafter if quantity in NEEDS_DRAFTER else None)
    size = batch if quantity == "plain_decode" else tokens
    if quantity == "round_overhead":
        context = 0.0  # the quantity has no context axis
    wanted = {"--batch": batch, "--tokens": size, "--context": context}
    absent = [x for x, y in wanted.items() if y is None]
    if absent or batch is None or size is None or context is None:
        raise InputError(f"{quantity}: expected {' and '.join(absent)} as well")
    return costs.predict(quantity, batch, size, context)


def _whole(value: object, column: str, path: Path, line: int) -> int | None:
    if pd.isna(value):
        return None
    number = _number(value, path, line)
    if number != int(number):
        raise InputError(f"{path}, line {line}: expected a whole number of {column}, got {value!r}")
    return int(number)


def _number(value: object, path: Path, line: int) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}, line {line}: expected a number, got {value!r}") from error

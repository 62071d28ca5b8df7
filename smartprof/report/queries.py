"""Answers to `smartprof predict`: one query, or a CSV of them."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

from smartprof.csv_files import Row, number, read_csv, require_no_extra, whole
from smartprof.errors import InputError, SmartprofError
from smartprof.format import seconds_text
from smartprof.planning.inputs import open_costs
from smartprof.profile.cost import CostModel, Prediction
from smartprof.profile.schema import AXES, Profile

COLUMNS = ("quantity", "batch", "tokens", "context")
ANSWERS = ("seconds", "tier")
NEEDS_DRAFTER = ("draft_step", "draft_catchup")


def answer_one(
    profile: Profile,
    drafter: str | None,
    quantity: str,
    batch: int | None,
    tokens: int | None,
    context: float | None,
) -> str:
    """One line: seconds, and how they were found.

    drafter: of draft quantities; may be None where the profile prices only one.
    """
    found = _predict(_costs(profile, drafter, quantity), quantity, batch, tokens, context)
    origin = "" if found.provenance == "measured" else f", {found.provenance} profile"
    return f"{found.seconds:.9g} s ({seconds_text(found.seconds)}), {found.tier}{origin}"


def answer_queries(profile: Profile, drafter: str | None, path: Path) -> str:
    """CSV of the queries with columns seconds and tier added, in the order given.

    Raises InputError for a file, a column or a cell that cannot be used, naming the line: no row
    is left out.
    """
    table = read_csv(path, COLUMNS, "queries")
    costs: dict[str, CostModel] = {}
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    own = [x for x in table.columns if x not in ANSWERS]
    writer.writerow([*own, *ANSWERS])
    for line, row in table.rows:
        try:
            quantity = row["quantity"].strip()
            if quantity not in costs:
                costs[quantity] = _costs(profile, drafter, quantity)
            found = _answer(costs[quantity], quantity, row)
        except SmartprofError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
        writer.writerow([*(row[x] for x in own), found.seconds, found.tier])
    return text.getvalue()


def _costs(profile: Profile, drafter: str | None, quantity: str) -> CostModel:
    if quantity not in AXES:
        raise InputError(f"expected a quantity of {', '.join(AXES)}, got {quantity!r}")
    return open_costs(profile, drafter) if quantity in NEEDS_DRAFTER else CostModel(profile)


def _answer(costs: CostModel, quantity: str, row: Row) -> Prediction:
    require_no_extra(row)
    return _predict(
        costs,
        quantity,
        whole(row["batch"], "batch"),
        whole(row["tokens"], "tokens"),
        number(row["context"], "context"),
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

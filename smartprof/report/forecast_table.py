"""The table of `calibrate --dry-run`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from smartprof.calibrate.forecast import Forecast
from smartprof.calibrate.plan import Plan
from smartprof.format import bytes_text, seconds_text


def forecast_table(rows: Sequence[Forecast]) -> Table:
    """One line per shape."""
    table = Table(
        title="shapes to measure, with rough predictions: nothing was measured", box=SIMPLE_HEAD
    )
    table.add_column("use")
    table.add_column("quantity")
    for name in ("batch", "size", "context"):
        table.add_column(name, justify="right")
    for name in ("one run", "all visits", "memory"):
        table.add_column(name, justify="right")
    for row in rows:
        point = row.point
        quantity = f"{point.quantity} ({point.source})" if point.source else point.quantity
        table.add_row(
            row.use,
            quantity,
            *(str(x) for x in (point.batch, point.size, point.context)),
            seconds_text(row.seconds),
            seconds_text(row.measuring_seconds),
            bytes_text(row.memory_bytes),
        )
    return table


def forecast_lines(plan: Plan, rows: Sequence[Forecast], budget_seconds: float) -> list[str]:
    """Sentences under the table."""
    sure = [x for x in rows if x.use != "second draw"]
    total = sum(x.measuring_seconds for x in sure)
    added = f"; up to {plan.spare} more shapes go where the curves are least known"
    lines = [
        f"{len(plan.fitted)} shapes to fit, {len(plan.held_out)} held out, about "
        f"{seconds_text(total)} by prediction{added if plan.spare else ''}",
        f"measuring ends after {budget_seconds:.0f} s, or when every point is settled; each shape "
        "is measured once however long that takes",
        f"most memory beside the weights: {bytes_text(max(x.memory_bytes for x in rows))}",
    ]
    return [*lines, *(f"left out: {x}" for x in plan.skipped)]

"""An estimate against measurements, for the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from smartprof.estimate.against import Errors
from smartprof.format import percent_text


def errors_table(errors: Errors) -> Table:
    """Errors of verify passes by batch size, then over all of them."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("batch", "points", "median", "p95", "bias"):
        table.add_column(name, justify="right")
    for batch in errors.batch_sizes:
        table.add_row(str(batch), *_cells(errors.at(batch)))
    table.add_section()
    table.add_row("all", *_cells(errors))
    table.caption = "estimated over measured seconds of verify passes, in percent"
    return table


def _cells(errors: Errors) -> list[str]:
    shown = (errors.median_abs_pct, errors.p95_abs_pct, errors.bias_pct)
    return [str(len(errors.signed_pct)), *(percent_text(x) for x in shown)]

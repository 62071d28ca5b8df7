"""What the commands' files share: where they print, and options that mean the same in all."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from smartprof.errors import InputError

UNLIMITED = 10_000  # columns
# Output that is no terminal gets lines long enough for the tables.
WIDTH = None if sys.stdout.isatty() else 120
# No markup, no emoji: names with square brackets or `:x:` in them are printed as they are.
out = Console(width=WIDTH, markup=False, emoji=False)
err = Console(stderr=True, markup=False, emoji=False, width=None if sys.stderr.isatty() else 120)

Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
ProfileName = Annotated[str, typer.Option(help="A profile file, or a shipped one's name.")]
PricedDrafter = Annotated[
    str | None,
    typer.Option("--drafter", help="One that the profile prices; default: its only one."),
]
JsonPath = Annotated[Path | None, typer.Option("--json", help="Write the report here.")]


def print_table(table: Table, console: Console = out) -> None:
    """Print a table, on a narrow terminal with long lines rather than with figures cut short.

    Columns of figures and single words keep their width, the others wrap.
    """
    for column in table.columns:
        cells = [str(x) for x in column.cells]
        if column.justify == "right" or not any(" " in x for x in cells):
            column.no_wrap = True
            column.min_width = max(cell_len(x) for x in (str(column.header), *cells))
    free = console.options.update(max_width=UNLIMITED)
    least = Measurement.get(console, free, table).minimum
    terminal, console.width = console.width, max(console.width, least)
    try:
        console.print(table, crop=False)
    finally:
        console.width = terminal


def integers(text: str, option: str) -> tuple[int, ...]:
    """Numbers from 1, separated by commas. Raises InputError naming the option."""
    try:
        values = tuple(int(x) for x in text.split(","))
    except ValueError:
        values = ()
    if not values or min(values) < 1:
        raise InputError(f"expected {option} to be numbers such as 1,4,8, got {text!r}")
    return values


def command_line() -> str:
    """What the user typed, as a shell takes it again, for the provenance of files."""
    return shlex.join(["smartprof", *sys.argv[1:]])


def print_line(line: str) -> None:
    """To standard output as it is: not wrapped, nothing coloured."""
    out.print(line, soft_wrap=True, highlight=False)

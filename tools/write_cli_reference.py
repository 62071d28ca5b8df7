"""Writes docs/cli.md from the commands as they stand: `make docs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from markdown_tables import table
from typer.main import get_command

from smartprof.cli import app

TARGET = Path(__file__).parents[1] / "docs" / "cli.md"
PREAMBLE = """# Commands

Written from the commands themselves by `make docs`; `smartprof COMMAND --help` says the same. Options in brackets tell their default and range. Expected errors are one line on standard error and exit code 1, wrong usage is exit code 2, an interrupt 130.
"""  # noqa: E501 - a paragraph of Markdown


def reference(application: typer.Typer = app) -> str:
    """Markdown: every command with what it takes."""
    group: Any = get_command(application)
    parent = typer.Context(group, info_name="smartprof")
    parts = [PREAMBLE]
    for name, command in sorted(group.commands.items()):
        context = typer.Context(command, info_name=name, parent=parent)
        parts.append("\n".join(_section(command, context)))
    return "\n".join(parts)


def _section(command: Any, context: typer.Context) -> Iterator[str]:
    usage = command.get_usage(context).removeprefix("Usage: ")
    yield f"## {context.info_name}\n"
    yield f"`{usage}`\n"
    yield f"{' '.join(command.help.split())}\n"
    records = [x.get_help_record(context) for x in command.params]
    if records:
        yield from table(("takes", "meaning"), ((f"`{x}`", y) for x, y in records))
        yield ""


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")

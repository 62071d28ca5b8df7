"""The commands about profiles as files: `compare`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from smartprof.console import Force, JsonPath, err, out

ProfileArgument = Annotated[
    str, typer.Argument(help="A profile file, or a shipped one's name.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(compare)


def compare(
    profile: ProfileArgument,
    other: ProfileArgument,
    drafter: Annotated[
        str | None, typer.Option(help="One that both price; default: all of those.")
    ] = None,
    acceptance: Annotated[
        list[str] | None,
        typer.Option(
            help="Decide for this acceptance, written as `plan` takes it; may be repeated. "
            "Default: three assumed ones."
        ),
    ] = None,
    json_path: JsonPath = None,
    force: Force = False,
) -> None:
    """How a second profile differs from a first, and what choosing by the first costs there."""
    from smartprof.planning.decisions import CURVES
    from smartprof.planning.sources.table import read_acceptance
    from smartprof.profile.files import find_profile, load_profile
    from smartprof.report.comparison import comparison_report
    from smartprof.report.json_files import require_writable, write_json

    if json_path:
        require_writable(json_path, force)
    curves = [read_acceptance(x) for x in acceptance or CURVES]
    profiles = [load_profile(find_profile(x)) for x in (profile, other)]
    found = _comparison(profiles[0], profiles[1], drafter, curves)
    _print_comparison(found)
    if json_path:
        write_json(comparison_report(found), json_path)
        err.print(f"wrote {json_path}", soft_wrap=True)


def _comparison(one: Any, other: Any, drafter: str | None, curves: list[Any]) -> Any:
    from smartprof.planning.decisions import compare_decisions
    from smartprof.profile.compare import common_drafters, compare_seconds
    from smartprof.profile.cost import CostModel
    from smartprof.profile.keys import key_differences
    from smartprof.report.comparison import Comparison

    drafters = common_drafters(one, other, drafter)
    return Comparison(
        one=one,
        other=other,
        differences=tuple(key_differences(one.key, other.key)),
        unshared=tuple(sorted(set(one.drafters) ^ set(other.drafters))),
        regions=tuple(compare_seconds(one, other, drafters)),
        decisions=tuple(
            y
            for x in drafters
            for y in compare_decisions(CostModel(one, x), CostModel(other, x), curves)
        ),
    )


def _print_comparison(found: Any) -> None:
    from smartprof.report.comparison import (
        comparison_lines,
        decisions_sentence,
        decisions_table,
        regions_table,
    )

    for line in comparison_lines(found):
        _print_line(line)
    out.print(regions_table(found.regions))
    if any(x.changes for x in found.decisions):
        out.print(decisions_table(found.decisions))
    _print_line(decisions_sentence(found.decisions))


def _print_line(line: str) -> None:
    out.print(line, soft_wrap=True, highlight=False)

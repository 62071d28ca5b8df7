"""The commands about profiles as files: `check`, `compare` and `fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from smartprof.console import (
    Force,
    JsonPath,
    command_line,
    err,
    integers,
    print_line,
    print_table,
)
from smartprof.errors import InputError

ProfileArgument = Annotated[
    str, typer.Argument(help="A profile file, or a shipped one's name.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(check)
    app.command()(compare)
    app.command()(fit)


def check(
    profile: ProfileArgument,
    gpu: Annotated[
        str,
        typer.Option(
            help="auto (a device of the profile's kind, if there is one), cpu, cuda, cuda:N, or "
            "none for a profile of another machine."
        ),
    ] = "auto",
    target: Annotated[
        str | None,
        typer.Option(
            help="The target to compare with, as `calibrate` takes it. With --on-device the "
            "default is smollm2."
        ),
    ] = None,
    on_device: Annotated[
        bool, typer.Option("--on-device", help="Measure five points of the profile again.")
    ] = False,
    drafter: Annotated[
        str, typer.Option(help="With --on-device, as `calibrate` takes it.")
    ] = "auto",
) -> None:
    """Is a profile complete, stable, recent, and of this device? Exit code 1 if it fails."""
    from smartprof.check_command import check_profile, recheck_profile
    from smartprof.profile.files import find_profile, load_profile
    from smartprof.report.checks import failed, finding_line, recheck_lines, summary_line

    if on_device and gpu == "none":
        raise InputError("expected --on-device or --gpu none, got both: drop one")
    loaded = load_profile(find_profile(profile))
    findings = check_profile(loaded, gpu, target)
    for finding in findings:
        print_line(finding_line(finding))
    if on_device:
        found = recheck_profile(
            loaded, gpu, target or "smollm2", drafter, lambda x: err.print(x, soft_wrap=True)
        )
        for line in recheck_lines(found.rechecks):
            print_line(line)
        findings += found.findings
        for finding in found.findings:
            print_line(finding_line(finding))
    print_line(summary_line(findings))
    if failed(findings):
        raise typer.Exit(1)


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


def fit(
    points: Annotated[
        Path,
        typer.Argument(help="CSV with columns quantity,batch,tokens,context,seconds[,repeat]."),
    ],
    path: Annotated[Path, typer.Option("--out", help="The profile to write.")],
    device: Annotated[str, typer.Option(help="The device that was timed, as it calls itself.")],
    target: Annotated[
        str,
        typer.Option(
            help="The target that was timed: a named shape, a fetched model, a directory with "
            "config.json, a .gguf file, a Hub id, or any name with --parameters."
        ),
    ],
    memory_gib: Annotated[float | None, typer.Option(help="The device's memory, GiB.")] = None,
    device_kind: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    capability: Annotated[
        str | None, typer.Option(help="Compute capability, or vector instructions of a CPU.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a CPU.")] = None,
    parameters: Annotated[
        int | None, typer.Option(help="Weights of a target whose shape is not known here.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Default: bfloat16 on a GPU, float32 on a CPU.")
    ] = None,
    execution: Annotated[str, typer.Option(help="eager or cuda_graph.")] = "eager",
    capture_sizes: Annotated[
        str | None, typer.Option(help="Token counts of captured graphs, separated by commas.")
    ] = None,
    drafter_name: Annotated[
        str | None, typer.Option(help="Whose the draft quantities are: ngram, lm, eagle3 or other.")
    ] = None,
    no_drafter: Annotated[
        bool, typer.Option("--no-drafter", help="Price no drafting: plan and decode need it.")
    ] = False,
    overhead_seconds: Annotated[
        float | None, typer.Option(help="For round_overhead without rows: at all sizes.")
    ] = None,
    plain_overhead_seconds: Annotated[
        float | None,
        typer.Option(
            help="For plain_decode without rows: beside a verify pass of one token per request."
        ),
    ] = None,
    draft_step_seconds: Annotated[
        float | None, typer.Option(help="For draft_step without rows: at all sizes.")
    ] = None,
    draft_catchup_seconds: Annotated[
        float | None, typer.Option(help="For draft_catchup without rows: at all sizes.")
    ] = None,
    half_width: Annotated[
        float | None,
        typer.Option(
            help="95 % half-width of points with one row, as a share of their seconds; default: "
            "not known."
        ),
    ] = None,
    note: Annotated[str, typer.Option(help="What timed them, for the provenance.")] = "",
    force: Force = False,
) -> None:
    """Make a profile of timings that somebody else measured, a serving engine's for instance."""
    from smartprof.calibrate.imported import ImportRequest, import_profile
    from smartprof.calibrate.points import read_points
    from smartprof.calibrate.stated import Stated
    from smartprof.calibrate.subject import Subject, subject_key
    from smartprof.profile.files import save_profile
    from smartprof.report.imported import imported_lines
    from smartprof.report.json_files import require_writable

    require_writable(path, force)
    if no_drafter == (drafter_name is not None):
        raise InputError(
            "expected --drafter-name, whose the draft quantities are, or --no-drafter to price no "
            f"drafting, got {'both' if no_drafter else 'neither'}"
        )
    subject = Subject(
        device,
        device_kind,
        memory_gib,
        capability,
        threads,
        target,
        parameters,
        dtype,
        execution,
        integers(capture_sizes, "--capture-sizes") if capture_sizes else (),
    )
    request = ImportRequest(
        points=read_points(points),
        key=subject_key(subject),
        drafter=drafter_name,
        stated=Stated(
            overhead_seconds,
            plain_overhead_seconds,
            draft_step_seconds,
            draft_catchup_seconds,
            half_width,
        ),
        command=command_line(),
        note=note,
    )
    saved = save_profile(import_profile(request), path, force)
    for line in imported_lines(saved, request.points.rows):
        print_line(line)
    err.print(f"wrote {path}", soft_wrap=True)


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
        print_line(line)
    if found.regions:
        print_table(regions_table(found))
    else:
        print_line("seconds: nothing compared, no point lies in both domains")
    if any(x.changes for x in found.decisions):
        print_table(decisions_table(found.decisions))
    print_line(decisions_sentence(found.decisions))

"""The commands that read a profile and an acceptance: `plan` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from smartprof.console import (
    Force,
    JsonPath,
    PricedDrafter,
    ProfileName,
    err,
    integers,
    print_line,
    print_table,
)
from smartprof.errors import InputError

AcceptanceText = Annotated[
    str,
    typer.Option(
        help="0.7+0.1/0.6 (ranks by +, depths by /), synthetic:0.7, length:2.4/5 (draft tokens "
        "accepted per round, of how many), file:FILE (an acceptance file), vllm:FILE (/metrics or "
        "JSON) or sglang:FILE (bench_speculative.py).",
    ),
]
MinGain = Annotated[
    float,
    typer.Option(help="What leaving the next smaller batch's setting must gain, as in 0.05."),
]
Ranges = Annotated[
    int | None,
    typer.Option(
        "--settings", help="At most so many settings, each for one range of batches; exact."
    ),
]
MaxDepth = Annotated[int, typer.Option(min=1, max=64, help="Most layers of a draft.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(plan)
    app.command()(export)


def plan(
    profile: ProfileName,
    acceptance: AcceptanceText,
    drafter: PricedDrafter = None,
    batch: Annotated[
        str | None, typer.Option(help="Batch sizes; default: 1,2,4,... as far as measured.")
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="Context lengths; default: those measured.")
    ] = None,
    family: Annotated[str, typer.Option(help="chain or tree (EAGLE-2's, chains included).")] = (
        "chain"
    ),
    min_gain: MinGain = 0.0,
    settings: Ranges = None,
    max_depth: MaxDepth = 8,
    max_nodes: Annotated[
        int, typer.Option(min=1, max=512, help="Most nodes verified per request.")
    ] = 64,
    explain: Annotated[
        tuple[int, float] | None,
        typer.Option(metavar="BATCH CONTEXT", help="Explain one decision instead of the table."),
    ] = None,
    json_path: JsonPath = None,
    plot: Annotated[Path | None, typer.Option(help="Draw speedup by batch and context.")] = None,
    force: Force = False,
) -> None:
    """The best speculation setting for each batch and context, and what it buys."""
    from smartprof.planning.families.base import Bounds
    from smartprof.planning.families.table import find_family
    from smartprof.planning.inputs import measured_batches, measured_contexts, open_costs
    from smartprof.planning.plan import Rule, make_plan
    from smartprof.planning.sources.table import read_acceptance
    from smartprof.profile.files import find_profile, load_profile

    _require_files(json_path, plot, force)
    found, rates = find_family(family), read_acceptance(acceptance)
    rule = Rule(min_gain, settings)
    loaded = load_profile(find_profile(profile))
    batches = integers(batch, "--batch") if batch else measured_batches(loaded)
    contexts = _numbers(context) if context else measured_contexts(loaded)
    if explain:
        batches, contexts = (*batches, explain[0]), (explain[1],)
    costs = open_costs(loaded, drafter)
    made = make_plan(
        costs,
        rates,
        found,
        batches,
        contexts,
        rule=rule,
        bounds=Bounds(max_depth, max_nodes),
    )
    _print_plan(costs, made, explain)
    _save_plan(costs, made, json_path, plot)


def export(
    engine: Annotated[
        str,
        typer.Argument(
            help="vllm, sglang (adaptive chains), sglang-static (one tree), sglang-sps (DSPARK's "
            "cost table), trtllm, transformers or llamacpp."
        ),
    ],
    profile: ProfileName,
    acceptance: AcceptanceText,
    path: Annotated[Path, typer.Option("--out", help="The file to write.")],
    drafter: PricedDrafter = None,
    max_batch: Annotated[
        int | None, typer.Option(min=1, help="The largest batch; default: as measured.")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="For an engine with one setting: the batch that it is best for."),
    ] = None,
    context: Annotated[
        float | None, typer.Option(min=1, help="Context; default: the middle measured one.")
    ] = None,
    graph_sizes: Annotated[
        str | None, typer.Option(help="Batches of captured graphs; default: the engine's.")
    ] = None,
    min_gain: MinGain = 0.0,
    settings: Ranges = None,
    min_length: Annotated[
        int, typer.Option(min=0, help="Draft at least so many tokens; 1 never pauses drafting.")
    ] = 0,
    max_depth: MaxDepth = 8,
    target: Annotated[str, typer.Option(help="The target's name in the printed command.")] = (
        "TARGET"
    ),
    draft: Annotated[str, typer.Option(help="The draft's name in file and command.")] = "DRAFT",
    force: Force = False,
) -> None:
    """Write a serving engine's settings file, and print the command that consumes it."""
    from smartprof.atomic import write_atomically
    from smartprof.exports.base import ExportRequest
    from smartprof.exports.table import find_exporter
    from smartprof.planning.families.base import Bounds
    from smartprof.planning.inputs import middle_context, open_costs
    from smartprof.planning.plan import Rule
    from smartprof.planning.sources.table import read_acceptance
    from smartprof.profile.files import find_profile, load_profile
    from smartprof.report.json_files import require_writable

    exporter, rates = find_exporter(engine), read_acceptance(acceptance)
    if batch and max_batch:
        raise InputError("expected --batch or --max-batch, got both: drop one")
    rule = Rule(min_gain, settings)
    require_writable(path, force)
    loaded = load_profile(find_profile(profile))
    request = ExportRequest(
        costs=open_costs(loaded, drafter),
        acceptance=rates,
        context=context or middle_context(loaded),
        max_batch=max_batch or batch or exporter.default_max_batch(loaded),
        path=path,
        batch=batch,
        graph_sizes=integers(graph_sizes, "--graph-sizes") if graph_sizes else None,
        rule=rule,
        bounds=Bounds(max_depth, least=min_length),
        target=target,
        draft=draft,
    )
    exported = exporter.export(request)
    write_atomically(exported.content, path, force)
    print_line(exported.command)
    for remark in exported.remarks:
        print_line(f"- {remark}")
    err.print(f"wrote {path}", soft_wrap=True)


def _print_plan(costs: Any, made: Any, explain: Any) -> None:
    from smartprof.report.plan_tables import (
        explanation,
        plan_heading,
        plan_table,
        stop_sentences,
        uncertain,
    )

    analytic = costs.profile.provenance.kind == "analytic"
    print_line(plan_heading(costs, made))
    if explain:
        cell = next(x for x in made.cells if x.batch == explain[0])
        lines = explanation(cell, uncertain(made, analytic))
    else:
        print_table(plan_table(made, analytic))
        lines = stop_sentences(made)
    for line in (*lines, *made.acceptance.remarks):
        print_line(line)


def _save_plan(costs: Any, made: Any, json_path: Path | None, plot: Path | None) -> None:
    from smartprof.report.plan_files import plan_report, plot_plan
    from smartprof.report.plan_tables import plan_heading

    if json_path:
        from smartprof.report.json_files import write_json

        write_json(plan_report(costs, made), json_path)
    if plot:
        plot_plan(made, plan_heading(costs, made), plot)
    for path in (json_path, plot):
        if path:
            err.print(f"wrote {path}", soft_wrap=True)


def _require_files(json_path: Path | None, plot: Path | None, force: bool) -> None:
    from smartprof.report.json_files import require_writable

    for path in (json_path, plot):
        if path:
            require_writable(path, force)
    if plot:
        from smartprof.report.plots import require_plottable

        require_plottable(plot)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(x) for x in integers(text, "--context"))

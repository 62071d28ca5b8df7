"""The command that replays policies: `simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smartprof.console import Force, JsonPath, ProfileName, err, integers, print_table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(simulate)


def simulate(
    profile: ProfileName,
    trace: Annotated[
        Path | None, typer.Option(help="A trace that `decode --trace-width --trace-depth` wrote.")
    ] = None,
    acceptance: Annotated[
        str | None,
        typer.Option(
            help="Instead of a trace: synthetic:RATE[,CONFIDENCE], the mean chance of a best "
            "child, and how the drafter misstates it (below 1: over-confident)."
        ),
    ] = None,
    policy: Annotated[
        str,
        typer.Option(
            help="Policies, separated by commas; also two ceilings, oracle (knows the target's "
            "path) and oracle-static (the best of 39 fixed settings, in hindsight)."
        ),
    ] = "plain,chain,eagle2,smart,oracle",
    batch: Annotated[str, typer.Option(help="Batch sizes, separated by commas.")] = "1,2,4,8,16",
    context: Annotated[
        str | None,
        typer.Option(help="Charge as if requests had so many tokens; separated by commas."),
    ] = None,
    drafter: Annotated[
        str | None,
        typer.Option(help="With --acceptance: whose seconds to charge; default the first."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the queue, and of --acceptance.")] = 0,
    json_path: JsonPath = None,
    plot: Annotated[Path | None, typer.Option(help="Draw speedup against batch here.")] = None,
    force: Force = False,
) -> None:
    """Replay policies against recorded or synthetic acceptance, charging a profile's seconds."""
    from smartprof.report.json_files import write_json
    from smartprof.report.plots import require_plottable
    from smartprof.report.policy_plots import plot_simulated
    from smartprof.report.tables import simulated_table
    from smartprof.simulate_command import SimulateRequest, simulate_report

    if plot:
        require_plottable(plot)
    request = SimulateRequest(
        profile=profile,
        trace=trace,
        acceptance=acceptance,
        drafter=drafter,
        policies=tuple(x.strip() for x in policy.split(",") if x.strip()),
        batches=integers(batch, "--batch"),
        contexts=() if context is None else integers(context, "--context"),
        seed=seed,
        files=tuple(x for x in (json_path, plot) if x),
        force=force,
    )
    report = simulate_report(request, lambda text: err.print(text, soft_wrap=True))
    print_table(simulated_table(report.runs, report.heading))
    if json_path:
        write_json(report.content, json_path)
    if plot:
        plot_simulated(report.runs, report.heading, plot)
    for path in request.files:
        err.print(f"wrote {path}", soft_wrap=True)

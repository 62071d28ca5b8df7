"""The `smartprof` command: parse, call one function, print or save."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.prompt import Confirm

from smartprof import __version__
from smartprof.cli_estimate import register as register_estimate
from smartprof.cli_plan import register as register_plan
from smartprof.cli_profiles import register as register_profiles
from smartprof.cli_simulate import register as register_simulate
from smartprof.console import (
    Force,
    PricedDrafter,
    command_line,
    err,
    integers,
    out,
    print_table,
)
from smartprof.errors import SmartprofError

INTERRUPTED = 130  # exit code

app = typer.Typer(
    help="Measure what a pass costs on this device, and size speculation trees by it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Gpu = Annotated[str, typer.Option("--gpu", help="auto, cpu, cuda or cuda:N.")]
Target = Annotated[
    str,
    typer.Option(
        "--target",
        help="smollm2, a model directory, a .gguf file, a Hub id (owner/name), or shape:NAME "
        "(random weights).",
    ),
]
DrafterName = Annotated[
    str,
    typer.Option(
        "--drafter",
        help="ngram, lm:MODEL, eagle3[:HEAD] or hybrid[:MODEL-OR-HEAD] (with n-grams), where MODEL "
        "is what --target takes and HEAD a directory, a Hub id or random, else the one shipped for "
        "the target; a directory or Hub id alone also tells what it is. auto: hybrid where a head "
        "is shipped, else ngram.",
    ),
]
Dtype = Annotated[
    str | None, typer.Option("--dtype", help="float32, bfloat16 or float16; default by device.")
]
Execution = Annotated[
    str,
    typer.Option(
        "--execution", help="auto (CUDA graphs on a GPU, else eager), eager or cuda_graph."
    ),
]


def run() -> None:
    """Entry point: expected errors in one line and exit code 1, bugs with their traceback."""
    try:
        app()
    except SmartprofError as error:
        err.print(f"smartprof: {' '.join(str(error).split())}", style="red", soft_wrap=True)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        err.print(
            "smartprof: this command runs models, expected torch, which is not installed: "
            "`pip install torch`; what reads profiles works without it",
            style="red",
            soft_wrap=True,
        )
        sys.exit(1)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's; not imported for this alone
            raise
        err.print(
            "smartprof: out of device memory: use smaller batches, fewer policies at once, or a "
            "smaller model",
            style="red",
            soft_wrap=True,
        )
        sys.exit(1)
    except SystemExit as ended:  # typer turns an interrupt into this
        if ended.code == INTERRUPTED:
            err.print(
                "smartprof: interrupted; every file is whole, and a calibration resumes when it is "
                "run again",
                style="red",
                soft_wrap=True,
            )
        raise


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"smartprof {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that stand before a command."""


@app.command()
def fetch(name: Annotated[str, typer.Argument(help="smollm2")] = "smollm2") -> None:
    """Obtain a model into the user's cache."""
    from smartprof.models.fetch import MODELS, fetch_progress, model_dir
    from smartprof.models.fetch import fetch as fetch_files

    with fetch_progress() as progress:
        model_dir(name)  # a name that nobody knows is refused in one line
        path = fetch_files(MODELS[name], progress)
    out.print(f"{name} is in {path}", soft_wrap=True)


@app.command()
def device(gpu: Gpu = "auto") -> None:
    """Print what a profile's key would hold for this device."""
    from smartprof.device import describe_device, resolve_device, software_key
    from smartprof.report.tables import device_table

    found = resolve_device(gpu)
    out.print(describe_device(found, gpu), soft_wrap=True)
    print_table(device_table(found, software_key()))


@app.command()
def calibrate(
    context: typer.Context,
    gpu: Gpu = "auto",
    target: Target = "smollm2",
    drafter: DrafterName = "auto",
    mode: Annotated[
        str, typer.Option(help="quick, full, or dense: nearly every size, to judge others by.")
    ] = "quick",
    budget: Annotated[
        float | None, typer.Option(min=0, help="Seconds of measuring; default by mode.")
    ] = None,
    repeat: Annotated[
        int, typer.Option(min=1, max=2, help="Sweeps; 2 tells how far they differ.")
    ] = 1,
    dtype: Dtype = None,
    execution: Execution = "auto",
    layers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Time so many layers and twice as many (random weights) and extrapolate by depth; "
            "default: as many as fit, if the model does not.",
        ),
    ] = None,
    path: Annotated[Path, typer.Option("--out", help="The profile to write.")] = Path(
        "profile.json"
    ),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the profile instead of tables.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Discard an unfinished run instead of resuming it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be measured, and write nothing.")
    ] = False,
    force: Force = False,
) -> None:
    """Measure this device and write its profile."""
    from smartprof.calibrate.journal import sole_writer
    from smartprof.calibrate.plan import find_mode
    from smartprof.calibrate.run import journal_path, open_journal, prepare
    from smartprof.calibrate.run import run as measure
    from smartprof.calibrate.slicing import load_for_timing
    from smartprof.device import describe_device, resolve_device
    from smartprof.drafters.table import choose_drafter, drafter_maker
    from smartprof.models.execution import choose_execution, open_execution
    from smartprof.profile.files import save_profile
    from smartprof.report.json_files import require_writable

    if not dry_run:
        require_writable(path, force)
    find_mode(mode)  # before anything is loaded
    choice = choose_drafter(drafter, target)
    found = resolve_device(gpu)
    choose_execution(execution, found.kind)
    if not dry_run:
        context.with_resource(sole_writer(journal_path(path)))
    err.print(describe_device(found, gpu), soft_wrap=True)
    # A run that goes on must time the same passes as its beginning.
    anew = not dry_run and (fresh or not journal_path(path).exists())
    model = load_for_timing(target, found, dtype, layers, anew)
    err.print(
        f"loaded {model.source.name} ({model.dtype}, {model.weights}) in {model.load_seconds:.1f} s"
    )
    opened = open_execution(execution, model.transformer, lambda x: err.print(x, soft_wrap=True))
    made = drafter_maker(choice, model, opened)()
    calibration = prepare(found, model, made, mode, budget, command_line(), opened, repeat)
    if dry_run:
        _print_forecast(calibration)
        return
    journal = open_journal(calibration, path)
    known = [] if fresh else _resumed(journal)
    if not known:
        journal.discard()
    plan = calibration.plan
    added = f", and up to {plan.spare} where curves are least known," if plan.spare else ""
    err.print(
        f"measuring {len(plan.fitted) + len(plan.held_out)} shapes{added} in about "
        f"{calibration.total_seconds:.0f} s",
        soft_wrap=True,
    )
    with _progress() as progress:
        task = progress.add_task("measuring", total=calibration.total_seconds, note="")
        profile = measure(calibration, journal, known, _calibration_bar(progress, task))
    saved = save_profile(profile, path, force=force)
    journal.discard()
    _print_profile(saved, as_json, path)
    err.print(f"wrote {path}", soft_wrap=True)


@app.command()
def show(
    profile: Annotated[str, typer.Argument(help="A profile file, or a shipped one's name.")],
    plot: Annotated[Path | None, typer.Option(help="Draw the surfaces into this file.")] = None,
    force: Force = False,
) -> None:
    """Print a profile for a person."""
    from smartprof.profile.files import find_profile, load_profile
    from smartprof.report.json_files import require_writable
    from smartprof.report.plots import plot_surfaces, require_plottable

    if plot:
        require_writable(plot, force)
        require_plottable(plot)
    path = find_profile(profile)
    loaded = load_profile(path)
    _print_profile(loaded, False, path)
    if plot:
        plot_surfaces(loaded, plot)
        out.print(f"wrote {plot}", soft_wrap=True)


@app.command()
def predict(
    profile: Annotated[str, typer.Argument(help="A profile file, or a shipped one's name.")],
    quantity: Annotated[
        str,
        typer.Option(help="verify, plain_decode, round_overhead, draft_step or draft_catchup."),
    ] = "verify",
    batch: Annotated[int | None, typer.Option(help="Requests in flight.")] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Tokens (or rows) of the pass; plain_decode needs none.")
    ] = None,
    context: Annotated[
        float | None, typer.Option(help="Mean committed tokens per request.")
    ] = None,
    drafter: PricedDrafter = None,
    queries: Annotated[
        Path | None,
        typer.Option(help="CSV with columns quantity,batch,tokens,context; prints CSV."),
    ] = None,
) -> None:
    """Seconds of a pass, and whether they are exact, interpolated or extrapolated."""
    from smartprof.profile.files import find_profile, load_profile
    from smartprof.report.queries import answer_one, answer_queries

    loaded = load_profile(find_profile(profile))
    if queries is not None:
        if loaded.provenance.kind != "measured":
            err.print(f"these seconds come from a profile that is {loaded.provenance.kind}")
        typer.echo(answer_queries(loaded, drafter, queries), nl=False)
        return
    typer.echo(answer_one(loaded, drafter, quantity, batch, tokens, context))


@app.command()
def policies() -> None:
    """List the policies with their papers and options."""
    from smartprof.policies.table import POLICIES
    from smartprof.report.tables import options_table, policies_table

    known = list(POLICIES.values())
    print_table(policies_table(known))
    print_table(options_table(known))


@app.command()
def decode(
    profile: Annotated[str, typer.Option(help="A profile file, or a shipped one's name.")],
    policy: Annotated[
        str,
        typer.Option(
            help="Policies, separated by commas; options after colons: chain:k=4. See `policies`."
        ),
    ] = "plain,chain,smart",
    batch: Annotated[str, typer.Option(help="Batch sizes, separated by commas.")] = "1,4",
    gpu: Gpu = "auto",
    target: Target = "smollm2",
    drafter: DrafterName = "auto",
    dtype: Dtype = None,
    execution: Execution = "auto",
    prompts: Annotated[
        Path | None, typer.Option(help="Prompts file (JSON lines or plain lines).")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="development or held-out (default, of the bundled prompts).")
    ] = None,
    category: Annotated[str | None, typer.Option(help="Only prompts of this category.")] = None,
    per_category: Annotated[
        int | None, typer.Option(min=1, help="At most so many prompts of each category.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens per prompt.")] = 128,
    chat: Annotated[bool, typer.Option(help="Apply the model's chat template.")] = True,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Let prompts of all categories share batches.")
    ] = False,
    temperature: Annotated[
        float, typer.Option(help="Sample at this temperature; 0 takes the most probable token.")
    ] = 0.0,
    top_k: Annotated[int | None, typer.Option(help="Sample from the k best tokens.")] = None,
    top_p: Annotated[
        float, typer.Option(help="Sample from the fewest tokens of this probability together.")
    ] = 1.0,
    min_p: Annotated[
        float, typer.Option(help="Sample from tokens this probable relative to the best.")
    ] = 0.0,
    repetition_penalty: Annotated[
        float, typer.Option(help="Weaken tokens that the text already has; 1 does nothing.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Of sampling; the same seed, the same tokens.")] = 0,
    stop: Annotated[
        list[str] | None, typer.Option(help="End an output at this string; may be repeated.")
    ] = None,
    require_measured: Annotated[
        bool, typer.Option(help="Refuse a profile of another device or model.")
    ] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw speedup against batch here.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Write every round and request here (npz).")
    ] = None,
    acceptance: Annotated[
        Path | None, typer.Option(help="Start from the acceptance that this file holds.")
    ] = None,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Learn no probabilities while decoding.")
    ] = False,
    save_acceptance: Annotated[
        Path | None, typer.Option(help="Write here what was learned of the drafter's acceptance.")
    ] = None,
    trace_width: Annotated[
        int | None,
        typer.Option(
            help="Also record draft trees at every output position for `simulate`, in a pass after "
            "the timed ones: nodes expanded per layer."
        ),
    ] = None,
    trace_depth: Annotated[int | None, typer.Option(help="Layers of the recorded trees.")] = None,
    show_text: Annotated[bool, typer.Option("--text", help="Print the decoded texts.")] = False,
    force: Force = False,
) -> None:
    """Decode prompts under a profile, losslessly, and report the speedup over plain decoding."""
    from smartprof.commands import DecodeRequest, decode_report, trace_size
    from smartprof.decode.acceptance import AcceptanceRequest
    from smartprof.decode.sampling import Sampling
    from smartprof.report.plots import require_plottable

    if plot:
        require_plottable(plot)
    request = DecodeRequest(
        profile=profile,
        policies=tuple(x.strip() for x in policy.split(",") if x.strip()),
        batches=integers(batch, "--batch"),
        gpu=gpu,
        target=target,
        drafter=drafter,
        dtype=dtype,
        execution=execution,
        prompts=prompts,
        split=split,
        category=category,
        per_category=per_category,
        max_new_tokens=max_new_tokens,
        chat=chat,
        mixed=mixed,
        sampling=Sampling(temperature, top_k, top_p, min_p, repetition_penalty, seed),
        stop=tuple(stop or ()),
        require_measured=require_measured,
        trace_size=trace_size(trace, trace_width, trace_depth),
        files=tuple(x for x in (json_path, plot, trace, save_acceptance) if x),
        force=force,
        acceptance=AcceptanceRequest(acceptance, freeze, save_acceptance, command_line()),
    )
    with _progress() as progress:
        report = decode_report(request, lambda text: err.print(text, soft_wrap=True), progress)
    _print_decode(report, show_text)
    _save_decode(report, json_path, plot, trace, save_acceptance)


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def _print_forecast(calibration: Any) -> None:
    from smartprof.calibrate.forecast import RATES, forecast
    from smartprof.report.forecast_table import forecast_lines, forecast_table

    model, plan = calibration.model, calibration.plan
    shape, element_bytes = model.source.shape, model.transformer.dtype.itemsize
    rows = forecast(plan, shape, element_bytes, RATES[calibration.device.kind])
    print_table(forecast_table(rows))
    for line in forecast_lines(plan, rows, calibration.total_seconds):
        out.print(line, soft_wrap=True)


def _resumed(journal: Any) -> Any:
    """Visits of an unfinished run, if there is one and the user wants them."""
    known = journal.read()
    if not known:
        return []
    shapes = len({x.point for x in known})
    found = f"an unfinished calibration with {shapes} measured shapes is in {journal.path}"
    if sys.stdin.isatty() and not Confirm.ask(f"{found}. Resume it?", console=err, default=True):
        return []
    err.print(f"{found}: resuming (--fresh starts over)", soft_wrap=True)
    return known


def _calibration_bar(progress: Progress, task: TaskID) -> Any:
    def show(step: Any) -> None:
        point = step.point
        left = max(0.0, step.budget_seconds - step.elapsed_seconds)
        progress.update(
            task,
            completed=min(step.elapsed_seconds, step.budget_seconds),
            note=f"{left:.0f} s left; {point.quantity} batch {point.batch}, size {point.size}, "
            f"context {point.context}",
        )

    return show


def _print_profile(profile: Any, as_json: bool, path: Path) -> None:
    from smartprof.report.quality import quality_sentences
    from smartprof.report.tables import knee_sentences, other_table, quality_table, verify_table

    if as_json:
        typer.echo(path.read_text(encoding="utf-8"), nl=False)
        return
    key = profile.key
    out.print(
        f"{key.target.name} ({key.dtype}, {key.execution}) on {key.device.name}: "
        f"{profile.provenance.kind} {profile.created}",
        soft_wrap=True,
    )
    print_table(verify_table(profile))
    print_table(other_table(profile))
    for sentence in knee_sentences(profile):
        out.print(sentence, soft_wrap=True)
    if profile.quality.held_out.count:
        print_table(quality_table(profile))
    for sentence in quality_sentences(profile):
        out.print(sentence, soft_wrap=True)
    for warning in profile.quality.warnings:
        out.print(f"warning: {warning}", soft_wrap=True)


def _print_decode(report: Any, show_text: bool) -> None:
    from smartprof.report.tables import calibration_table, runs_table

    print_table(runs_table(report.runs, report.heading, report.sampling))
    if any(x.verified_nodes for x in report.runs):
        print_table(calibration_table(report.runs))
    if not show_text:
        return
    for lane in report.lanes:
        for progress in lane.outputs:
            out.rule(f"{progress.request.prompt_id}, {lane.policy}, batch {lane.batch}")
            out.print(report.text(progress), markup=False, highlight=False)


def _save_decode(
    report: Any,
    json_path: Path | None,
    plot: Path | None,
    trace: Path | None,
    acceptance: Path | None,
) -> None:
    from smartprof.decode.trace import write_trace
    from smartprof.profile.acceptance import save_acceptance
    from smartprof.report.json_files import runs_report, write_json
    from smartprof.report.policy_plots import plot_runs

    if json_path:
        content = runs_report(
            report.runs, report.device_match, report.heading, report.sampling, report.stop
        )
        write_json(content, json_path)
    if plot:
        plot_runs(report.runs, report.heading, plot)
    if trace:
        write_trace(report.lanes, trace, report.recording)
    if acceptance:
        save_acceptance(report.acceptance, acceptance, force=True)
    for path in (json_path, plot, trace, acceptance):
        if path:
            err.print(f"wrote {path}", soft_wrap=True)


register_estimate(app)
register_plan(app)
register_profiles(app)
register_simulate(app)

if __name__ == "__main__":
    run()

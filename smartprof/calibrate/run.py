"""A whole calibration: plan, sweep, fit, judge. Returns the profile; saving is the caller's."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from smartprof import __version__
from smartprof.calibrate.fit import fit_surface
from smartprof.calibrate.journal import Journal
from smartprof.calibrate.plan import Plan, Point, make_plan
from smartprof.calibrate.quality import error_summary, held_out_points, strata, with_regret
from smartprof.calibrate.sweep import Bench, Samples, capture, relative_half_width, sweep
from smartprof.decode.prompts import bundled_prompts, select_prompts
from smartprof.decode.target import Target
from smartprof.device import (
    Device,
    NvmlMonitor,
    device_key,
    free_bytes,
    load_average,
    software_key,
)
from smartprof.drafters.base import Drafter
from smartprof.errors import DeviceError
from smartprof.models.execution import EAGER, Execution
from smartprof.models.loading import LoadedModel
from smartprof.profile.part import utc_now
from smartprof.profile.schema import (
    SCHEMA_VERSION,
    DeviceKey,
    DrafterCosts,
    Key,
    ModelKey,
    Profile,
    Provenance,
    Quality,
    SoftwareKey,
    Surface,
)
from smartprof.stats import Summary, summarise

BUSY_LOAD = 1.0  # runnable processes besides ours from which timings are suspect
NOISY_HALF_WIDTH = 0.05
MEMORY_SHARE = 0.8  # of the free memory that a calibration may plan for


@dataclass(frozen=True)
class Step:
    """Where a calibration stands, for a progress bar."""

    point: Point
    visits: int
    elapsed_seconds: float
    budget_seconds: float


@dataclass(frozen=True)
class Calibration:
    """Everything that a calibration is made of before it starts."""

    device: Device
    model: LoadedModel
    drafter: Drafter
    plan: Plan
    budget_seconds: float
    command: str
    execution: Execution = EAGER


def profile_key(device: Device, model: LoadedModel, execution: Execution) -> Key:
    """What a profile measured here and now is valid for."""
    shape = model.source.shape
    return Key(
        device=DeviceKey.model_validate(device_key(device)),
        software=SoftwareKey.model_validate(software_key()),
        target=ModelKey(name=shape.name, digest=shape.digest, parameters=shape.parameters),
        dtype=model.dtype,  # type: ignore[arg-type]
        execution=execution.name,
        capture_sizes=execution.capture_sizes,
    )


def prepare(
    device: Device,
    model: LoadedModel,
    drafter: Drafter,
    mode: str,
    budget_seconds: float | None,
    command: str,
    execution: Execution = EAGER,
) -> Calibration:
    """Plan a calibration for the memory that is free now. Raises InputError if nothing fits."""
    shape = model.source.shape
    element_bytes = model.transformer.dtype.itemsize
    memory = int(MEMORY_SHARE * free_bytes(device.torch_device))
    plan = make_plan(
        mode,
        shape,
        memory,
        element_bytes,
        shape.max_context,
        drafter.sources,
        execution.capture_sizes,
    )
    budget = plan.mode.budget_seconds if budget_seconds is None else budget_seconds
    exact = replace(execution, exact_rows=True)
    return Calibration(device, model, drafter, plan, budget, command, exact)


def open_journal(calibration: Calibration, out: Path) -> Journal:
    """The record of an unfinished run beside the profile that is to be written."""
    key = profile_key(calibration.device, calibration.model, calibration.execution)
    header = {
        "smartprof": __version__,
        "key": key.model_dump(mode="json"),
        "drafter": calibration.drafter.digest,
        "mode": calibration.plan.mode.name,
    }
    return Journal(out.with_name(out.name + ".partial.jsonl"), header)


def run(
    calibration: Calibration, journal: Journal, known: Samples, on_step: Callable[[Step], None]
) -> Profile:
    """Measure what `known` (samples of an interrupted run) lacks, fit, and judge the fit.

    Raises DeviceError when a pass cannot be captured that the execution wants captured.
    """
    start = time.perf_counter()
    load = load_average()
    plan = calibration.plan
    samples: Samples = {x: list(y) for x, y in known.items()}
    journal.start()
    bench = _bench(calibration)
    execution = calibration.execution
    wanted = execution.name
    if wanted == "cuda_graph":
        capture(bench, plan)
        _require_execution(execution, wanted)
    for count, visit in enumerate(sweep(bench, plan, known, calibration.budget_seconds), 1):
        _require_execution(execution, wanted)
        journal.add(visit)
        samples.setdefault(visit.point, []).extend(visit.samples)
        elapsed = time.perf_counter() - start
        on_step(Step(visit.point, count, elapsed, calibration.budget_seconds))
    warnings = [*_machine_warnings(calibration.device, load), *_clock_warnings(calibration.device)]
    return _profile(calibration, samples, time.perf_counter() - start, warnings)


def _require_execution(execution: Execution, wanted: str) -> None:
    """One profile holds timings of one execution mode."""
    if execution.name != wanted:
        raise DeviceError(
            f"expected every pass to run as {wanted}, got one that cannot: calibrate again with "
            f"--execution {execution.name}"
        )


def _bench(calibration: Calibration) -> Bench:
    model, plan = calibration.model, calibration.plan
    drafter = calibration.drafter
    target = Target(
        model.transformer, plan.batch, plan.capacity, drafter.taps, calibration.execution
    )
    # Numbers as they come in use: zeros could be cheaper to multiply than real keys and values.
    target.cache.data.normal_()
    target.cache.features.normal_()
    drafter.attach(target.cache)
    for cache in drafter.caches:
        cache.data.normal_()
    return Bench(target, drafter, _draft_text(model))


def _draft_text(model: LoadedModel) -> list[int]:
    """Real text for the drafter to search: the development prompts as the model would see them.

    A model without a tokenizer gets random tokens: it has no text of its own.
    """
    if model.source.path is None:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(model.source.shape.vocab, (8192,), generator=generator).tolist()
    tokenizer = model.tokenizer()
    prompts = select_prompts(bundled_prompts(), "development", None, None)
    return [token for prompt in prompts for token in tokenizer.encode(prompt.text)]


def _profile(
    calibration: Calibration, samples: Samples, wall_seconds: float, warnings: list[str]
) -> Profile:
    summaries = {x: summarise(y) for x, y in samples.items()}
    plan = calibration.plan
    verify = _surface("verify", plan, summaries)
    held_out = held_out_points(verify, {x: summaries[x] for x in plan.held_out})
    drafter = calibration.drafter
    profile = Profile(
        schema_version=SCHEMA_VERSION,
        created=utc_now(),
        provenance=Provenance(
            kind="measured",
            command=calibration.command,
            note=calibration.model.transformer.kernels,
        ),
        key=profile_key(calibration.device, calibration.model, calibration.execution),
        verify=verify,
        plain_decode=_surface("plain_decode", plan, summaries),
        round_overhead=_surface("round_overhead", plan, summaries),
        drafters={x: _drafter_costs(drafter, x, plan, summaries) for x in drafter.sources},
        quality=Quality(
            held_out=error_summary(held_out),
            strata=strata(held_out, verify),
            points=held_out,
            before_redraw=None,
            noise_floor_pct=_noise_floor(summaries),
            repeatability=None,
            regret=None,
            outliers=None,
            drifts=None,
            wall_seconds=wall_seconds,
            shapes=len(samples),
            forwards=sum(len(x) for x in samples.values()),
            warnings=[*warnings, *_warnings(plan, summaries)],
        ),
        acceptance=None,
        checksum="",
    )
    return with_regret(profile)


def _drafter_costs(
    drafter: Drafter, source: str, plan: Plan, summaries: dict[Point, Summary]
) -> DrafterCosts:
    return DrafterCosts(
        digest=drafter.part(source).digest,
        kind=drafter.part(source).kind,
        draft_step=_surface("draft_step", plan, summaries, source),
        draft_catchup=_surface("draft_catchup", plan, summaries, source),
    )


def _surface(
    quantity: str, plan: Plan, summaries: dict[Point, Summary], source: str = ""
) -> Surface:
    points = {
        (x.batch, x.size, x.context): summaries[x]
        for x in plan.fitted
        if (x.quantity, x.source) == (quantity, source)
    }
    return fit_surface(quantity, points)


def _noise_floor(summaries: dict[Point, Summary]) -> float:
    """Median half-width of the verify passes' intervals, in percent: no error can be below it."""
    widths = sorted(relative_half_width(y) for x, y in summaries.items() if x.quantity == "verify")
    return 100 * widths[len(widths) // 2]


def _machine_warnings(device: Device, load: float | None) -> list[str]:
    """What the load before measuring began says."""
    if device.kind != "cpu" or load is None or load <= BUSY_LOAD:
        return []
    return [
        f"the machine was busy when measuring began (load average {load:.1f}): stop other work and "
        "calibrate again"
    ]


def _clock_warnings(device: Device) -> list[str]:
    """What the GPU says of its clock at the end, hot from the work."""
    with NvmlMonitor(device) as monitor:
        reading = monitor.read()
    warnings = []
    if reading.thermally_throttled:
        warnings.append("the GPU was throttled by heat: let it cool and calibrate again")
    if reading.power_capped:
        warnings.append("the GPU ran at its power limit: timings are those of a capped clock")
    if device.kind == "cuda" and reading.clock_events is None:
        reason = reading.missing.get("clock_events", "unknown")
        warnings.append(f"throttling could not be read from NVML ({reason})")
    return warnings


def _warnings(plan: Plan, summaries: dict[Point, Summary]) -> list[str]:
    warnings = [f"left out: {x}" for x in plan.skipped]
    noisy = [
        x
        for x, y in summaries.items()
        if x.quantity == "verify" and relative_half_width(y) > NOISY_HALF_WIDTH
    ]
    if noisy:
        warnings.append(
            f"{len(noisy)} of the verify passes have intervals wider than "
            f"{100 * NOISY_HALF_WIDTH:.0f} %: use --mode full or a larger --budget"
        )
    return warnings

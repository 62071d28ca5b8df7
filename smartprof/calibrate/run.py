"""A whole calibration: plan, sweep, fit, judge. Returns the profile; saving is the caller's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import torch

from smartprof import __version__
from smartprof.calibrate.clocks import ClockWatch
from smartprof.calibrate.journal import Journal
from smartprof.calibrate.judge import judge
from smartprof.calibrate.measure import Measured
from smartprof.calibrate.plan import TILES, Plan, Point, make_plan
from smartprof.calibrate.quality import with_regret
from smartprof.calibrate.repeats import measure_sweeps, pooled, repeatability, resumed
from smartprof.calibrate.slicing import SlicedTimings, halves
from smartprof.calibrate.sweep import Bench, BenchTimings, capture
from smartprof.calibrate.visits import Visit
from smartprof.decode.prompts import bundled_prompts, select_prompts
from smartprof.decode.target import Target
from smartprof.device import (
    BUSY_LOAD,
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
from smartprof.models.transformer import Transformer
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
)

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
    """Everything that a calibration is made of before it starts.

    budget_seconds: of each sweep. sweeps: 2 to learn how repeatable the timings are.
    """

    device: Device
    model: LoadedModel
    drafter: Drafter
    plan: Plan
    budget_seconds: float
    command: str
    execution: Execution = EAGER
    sweeps: int = 1

    @property
    def total_seconds(self) -> float:
        """The budget of all sweeps."""
        return self.sweeps * self.budget_seconds


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
    sweeps: int = 1,
) -> Calibration:
    """Plan a calibration for the memory that is free now. Raises InputError if nothing fits."""
    shape = model.source.shape
    element_bytes = model.transformer.dtype.itemsize
    memory = int(MEMORY_SHARE * free_bytes(device.torch_device))
    plan = make_plan(
        mode,
        model.transformer.shape,
        memory,
        element_bytes,
        shape.max_context,
        drafter.sources,
        execution.capture_sizes,
        TILES[device.kind],
    )
    budget = plan.mode.budget_seconds if budget_seconds is None else budget_seconds
    exact = replace(execution, exact_rows=True)
    return Calibration(device, model, drafter, plan, budget, command, exact, sweeps)


def open_journal(calibration: Calibration, out: Path) -> Journal:
    """The record of an unfinished run beside the profile that is to be written."""
    key = profile_key(calibration.device, calibration.model, calibration.execution)
    header = {
        "smartprof": __version__,
        "key": key.model_dump(mode="json"),
        "drafter": calibration.drafter.digest,
        "mode": calibration.plan.mode.name,
        "layers": calibration.model.transformer.shape.layers,
    }
    return Journal(journal_path(out), header)


def journal_path(out: Path) -> Path:
    """Where the record of an unfinished run is."""
    return out.with_name(out.name + ".partial.jsonl")


def run(
    calibration: Calibration,
    journal: Journal,
    known: Sequence[Visit],
    on_step: Callable[[Step], None],
) -> Profile:
    """Measure what `known` (visits of an interrupted run) lacks, fit, and judge the fit.

    Raises DeviceError when a pass cannot be captured that the execution wants captured.
    """
    start = time.perf_counter()
    load = load_average()
    records = resumed(journal, known, calibration.sweeps)
    save = _saver(calibration, on_step)
    bench = open_bench(calibration)
    if calibration.execution.name == "cuda_graph":
        capture(bench, calibration.plan)
    with NvmlMonitor(calibration.device) as monitor:
        watch = ClockWatch(monitor.read) if calibration.device.kind == "cuda" else None
        sweeps = measure_sweeps(
            calibration.plan,
            calibration.budget_seconds,
            _timings(calibration, bench),
            records,
            save,
            watch,
        )
    warnings = [
        *_machine_warnings(calibration.device, load),
        *(watch.warnings() if watch else []),
    ]
    found, seconds = pooled(sweeps), time.perf_counter() - start
    differences = repeatability([x.samples for x in sweeps])
    return with_regret(_profile(calibration, found, judge(found, seconds, warnings, differences)))


def _saver(
    calibration: Calibration, on_step: Callable[[Step], None]
) -> Callable[[Journal, Visit], None]:
    """What saves a visit, reports it, and refuses one of another execution than was asked for."""
    execution = calibration.execution
    wanted, start, numbers = execution.name, time.perf_counter(), count(1)

    def save(journal: Journal, visit: Visit) -> None:
        _require_execution(execution, wanted)
        journal.add(visit)
        elapsed = time.perf_counter() - start
        on_step(Step(visit.point, next(numbers), elapsed, calibration.total_seconds))

    return save


def _require_execution(execution: Execution, wanted: str) -> None:
    """One profile holds timings of one execution mode."""
    if execution.name != wanted:
        raise DeviceError(
            f"expected every pass to run as {wanted}, got one that cannot: calibrate again with "
            f"--execution {execution.name}"
        )


def _timings(calibration: Calibration, bench: Bench) -> BenchTimings:
    """Of a model in slices, those of its whole depth."""
    model = calibration.model
    if not model.sliced:
        return BenchTimings(bench)
    _, shallow = halves(model.transformer)
    target = _open_target(calibration, shallow)
    return SlicedTimings(bench, replace(bench, target=target), model.source.shape.layers)


def _open_target(calibration: Calibration, model: Transformer) -> Target:
    plan = calibration.plan
    target = Target(
        model, plan.batch, plan.capacity, calibration.drafter.taps, calibration.execution
    )
    # Numbers as they come in use: zeros could be cheaper to multiply than real keys and values.
    target.cache.data.normal_()
    target.cache.features.normal_()
    return target


def open_bench(calibration: Calibration) -> Bench:
    """Target, cache and drafter of a calibration, ready to be timed point by point."""
    model, drafter = calibration.model, calibration.drafter
    transformer = halves(model.transformer)[0] if model.sliced else model.transformer
    target = _open_target(calibration, transformer)
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


def _machine_warnings(device: Device, load: float | None) -> list[str]:
    """What the load before measuring began says."""
    if device.kind != "cpu" or load is None or load <= BUSY_LOAD:
        return []
    return [
        f"the machine was busy when measuring began (load average {load:.1f}): stop other work and "
        "calibrate again"
    ]


def _profile(calibration: Calibration, found: Measured, quality: Quality) -> Profile:
    drafter = calibration.drafter
    return Profile(
        schema_version=SCHEMA_VERSION,
        created=utc_now(),
        provenance=Provenance(
            kind="measured",
            command=calibration.command,
            note=f"{calibration.model.weights}; {calibration.model.transformer.kernels}",
        ),
        key=profile_key(calibration.device, calibration.model, calibration.execution),
        verify=found.surface("verify"),
        plain_decode=found.surface("plain_decode"),
        round_overhead=found.surface("round_overhead"),
        drafters={x: _drafter_costs(drafter, x, found) for x in drafter.sources},
        quality=quality,
        acceptance=None,
        checksum="",
    )


def _drafter_costs(drafter: Drafter, source: str, found: Measured) -> DrafterCosts:
    return DrafterCosts(
        digest=drafter.part(source).digest,
        kind=drafter.part(source).kind,
        draft_step=found.surface("draft_step", source),
        draft_catchup=found.surface("draft_catchup", source),
    )

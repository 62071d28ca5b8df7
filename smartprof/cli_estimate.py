"""The command that prices a device from its data sheet: `estimate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from smartprof.console import Force, command_line, err, integers, print_line, print_table
from smartprof.errors import InputError

UNLIMITED = 10**15  # bytes, where only verify passes are held against measured ones


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(estimate)


def estimate(
    device: Annotated[
        str | None,
        typer.Option(
            help="a100, a100-40, h100, h200, l40s, rtx-pro-6000, l4, a10 or rtx-4090; with "
            "--flops any name."
        ),
    ] = None,
    target: Annotated[str, typer.Option(help="A named shape.")] = "Llama-3.1-8B",
    drafter: Annotated[
        str | None,
        typer.Option(help="A named head or shape; default: the EAGLE-3 head of the target."),
    ] = None,
    path: Annotated[Path | None, typer.Option("--out", help="The profile to write.")] = None,
    against: Annotated[
        str | None,
        typer.Option(help="A measured profile: print how far verify passes are off from it."),
    ] = None,
    batches: Annotated[str, typer.Option(help="Batch sizes.")] = "1,2,4,8,16,32,64",
    contexts: Annotated[str, typer.Option(help="Context lengths.")] = "128,512,2048,4096",
    tokens: Annotated[int, typer.Option(help="Tokens of the largest pass.")] = 512,
    execution: Annotated[str, typer.Option(help="cuda_graph or eager.")] = "cuda_graph",
    flops: Annotated[
        float | None, typer.Option(help="FLOP/s of a CPU in float32 that is in no table.")
    ] = None,
    bandwidth: Annotated[float | None, typer.Option(help="Its bytes per second.")] = None,
    memory: Annotated[int | None, typer.Option(help="Its bytes of memory.")] = None,
    bandwidth_share: Annotated[
        float | None, typer.Option(help="Share of the bandwidth that weights are read at.")
    ] = None,
    compute_share: Annotated[
        float | None, typer.Option(help="Share of the FLOP/s that products keep up.")
    ] = None,
    attention_share: Annotated[
        float | None, typer.Option(help="Share of the bandwidth for keys and values.")
    ] = None,
    kernel_seconds: Annotated[
        float | None, typer.Option(help="Fixed seconds of each kernel.")
    ] = None,
    step_seconds: Annotated[float, typer.Option(help="Fixed seconds of a draft step.")] = 100e-6,
    round_seconds: Annotated[float, typer.Option(help="Fixed seconds of a round.")] = 1e-3,
    force: Force = False,
) -> None:
    """An analytic profile from data-sheet peaks, or its error against a measured one."""
    from smartprof.estimate.machine import Shares

    shares = Shares(
        bandwidth_share,
        compute_share,
        attention_share,
        kernel_seconds,
        step_seconds,
        round_seconds,
    )
    wanted = _Wanted(device, flops, bandwidth, memory, execution)
    if against is not None:
        if path is not None:
            raise InputError("expected --out FILE or --against PROFILE, got both: drop one")
        _hold_against(wanted, shares, against)
        return
    if path is None:
        raise InputError("expected --out FILE to write, or --against PROFILE, got neither")
    _write(wanted, shares, target, drafter, (batches, contexts, tokens), path, force)


@dataclass(frozen=True)
class _Wanted:
    """The device as the options name it."""

    device: str | None
    flops: float | None
    bandwidth: float | None
    memory: int | None
    execution: str

    def machine(self, shares: Any, name: str | None, memory: int | None) -> Any:
        """By its name or by stated peaks. name, memory: of the latter where no option says."""
        from smartprof.estimate.devices import DEVICES, find_sheet
        from smartprof.estimate.machine import cpu_machine, gpu_machine

        called = self.device or name
        if self.flops is None and self.bandwidth is None:
            if called is None:
                raise InputError(f"expected --device, one of {', '.join(DEVICES)}; got none")
            if self.memory is not None:
                raise InputError(
                    f"--device {called}: expected no --memory for a device of the table, whose "
                    "sheet says it: drop it, or give --flops and --bandwidth as well"
                )
            return gpu_machine(find_sheet(called), shares, self.execution)
        size = self.memory or memory
        if self.flops is None or self.bandwidth is None or called is None or size is None:
            raise InputError(
                "expected --device NAME, --flops, --bandwidth and --memory together for a device "
                "by its peaks"
            )
        return cpu_machine(called, self.flops, self.bandwidth, size, shares)


def _write(
    wanted: _Wanted,
    shares: Any,
    target: str,
    drafter: str | None,
    grid: tuple[str, str, int],
    path: Path,
    force: bool,
) -> None:
    from smartprof.estimate.build import Grid, estimate_profile
    from smartprof.estimate.quantities import find_drafter
    from smartprof.models.named_heads import PREFIX
    from smartprof.models.naming import require_shape
    from smartprof.profile.files import save_profile
    from smartprof.report.json_files import require_writable

    require_writable(path, force)
    shape = require_shape(target)
    network = find_drafter(drafter or f"{PREFIX}{shape.name}", shape)
    axes = Grid(integers(grid[0], "--batches"), integers(grid[1], "--contexts"), grid[2])
    machine = wanted.machine(shares, None, None)
    saved = save_profile(
        estimate_profile(machine, shape, network, axes, command_line()), path, force=force
    )
    print_line(f"{shape.name} with {network.name} on {machine.name}: {saved.provenance.note}")
    for warning in saved.quality.warnings:
        print_line(f"warning: {warning}")
    err.print(f"wrote {path}", soft_wrap=True)


def _hold_against(wanted: _Wanted, shares: Any, against: str) -> None:
    from smartprof.estimate.against import target_of, verify_errors
    from smartprof.profile.files import find_profile, load_profile
    from smartprof.report.estimate_tables import errors_table

    profile = load_profile(find_profile(against))
    machine = wanted.machine(shares, profile.key.device.name, UNLIMITED)
    errors = verify_errors(machine, profile)
    print_line(f"{target_of(profile).name} on {machine.name}: {machine.note}")
    print_table(errors_table(errors))
    print_line(
        f"verify: median error {errors.median_abs_pct:.1f} % over {len(errors.signed_pct)} "
        "measured points"
    )

"""A device as an estimate sees it: rates that are kept up, tiles, and fixed costs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from smartprof.errors import InputError
from smartprof.estimate.devices import DeviceSheet

# Long reads reach 0.8 to 0.95 of the stated bandwidth (NVIDIA claims 0.95 for DRAM of the A100);
# the weights of a layer are read in pieces of some ten megabytes.
BANDWIDTH_SHARE = 0.85
# Keys and values lie in pages and are read by few, short-lived blocks.
ATTENTION_SHARE = 0.70
# From one kernel to the next within a CUDA graph, ramping up and draining included.
GRAPH_KERNEL_SECONDS = 1.5e-6
# From one kernel to the next where Python launches each: the host is slower than the device.
EAGER_KERNEL_SECONDS = 6e-6
# An operation of a few rows that returns to Python, on a CPU.
CPU_KERNEL_SECONDS = 5e-6
# The shortest attention over several blocks, its final reduction included.
ATTENTION_SECONDS = 5e-6
# Choosing children, gathering inputs and starting the next draft step.
STEP_SECONDS = 100e-6
# Scheduling, choosing tokens and moving accepted rows: 0.5 to 20 ms in serving engines.
ROUND_SECONDS = 1e-3
REQUEST_SECONDS = 10e-6
NODE_SECONDS = 1e-6
MOST_FIXED_SECONDS = 10.0  # that an option may state: more is a slip of the unit

TILE_TOKENS = (64, 128)  # heights of the tiles that libraries choose from
TILE_COLUMNS = 128
SPLITS = (1, 2, 4, 8)  # into how many parts a product's depth may be cut to fill the device


@dataclass(frozen=True)
class Shares:
    """Options of an estimate; None takes the default for the device.

    bandwidth, compute, attention: shares of the peaks. kernel_seconds, step_seconds, round_seconds:
    fixed costs of a kernel, a draft step and a round.
    """

    bandwidth: float | None = None
    compute: float | None = None
    attention: float | None = None
    kernel_seconds: float | None = None
    step_seconds: float = STEP_SECONDS
    round_seconds: float = ROUND_SECONDS

    def __post_init__(self) -> None:
        """Raise InputError for a share outside (0, 1] or a fixed cost that is none."""
        for name in ("bandwidth", "compute", "attention"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"--{name}-share: expected more than 0 and at most 1, got {value}")
        for name in ("kernel_seconds", "step_seconds", "round_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= MOST_FIXED_SECONDS:
                raise InputError(
                    f"--{name.replace('_', '-')}: expected 0 to {MOST_FIXED_SECONDS:g}, got {value}"
                )


@dataclass(frozen=True)
class Machine:
    """Rates in FLOP/s and bytes per second as they are kept up, and fixed seconds.

    units: tiles in flight at once. tile_tokens, tile_columns: sizes of a tile, 1 where there are
    none. overlap: whether reading and computing go on at the same time.
    """

    name: str
    kind: str
    memory_bytes: int
    capability: str | None
    l2_bytes: int | None
    flops: float
    bandwidth: float
    kv_bandwidth: float
    units: int
    tile_tokens: tuple[int, ...]
    tile_columns: int
    splits: tuple[int, ...]
    overlap: bool
    kernel_seconds: float
    attention_seconds: float
    step_seconds: float
    round_seconds: float
    execution: str
    element_bytes: int
    note: str


def gpu_machine(sheet: DeviceSheet, shares: Shares, execution: str) -> Machine:
    """An NVIDIA device in bfloat16, by its data sheet."""
    if execution not in ("cuda_graph", "eager"):
        raise InputError(f"expected --execution cuda_graph or eager, got {execution!r}")
    bandwidth = BANDWIDTH_SHARE if shares.bandwidth is None else shares.bandwidth
    compute = sheet.sustained if shares.compute is None else shares.compute
    attention = ATTENTION_SHARE if shares.attention is None else shares.attention
    default = GRAPH_KERNEL_SECONDS if execution == "cuda_graph" else EAGER_KERNEL_SECONDS
    kernel = default if shares.kernel_seconds is None else shares.kernel_seconds
    found = Machine(
        name=sheet.name,
        kind="cuda",
        memory_bytes=sheet.memory_bytes,
        capability=sheet.capability,
        l2_bytes=sheet.l2_bytes,
        flops=compute * sheet.flops,
        bandwidth=bandwidth * sheet.bandwidth,
        kv_bandwidth=attention * sheet.bandwidth,
        units=sheet.sms,
        tile_tokens=TILE_TOKENS,
        tile_columns=TILE_COLUMNS,
        splits=SPLITS,
        overlap=True,
        kernel_seconds=kernel,
        attention_seconds=ATTENTION_SECONDS,
        step_seconds=shares.step_seconds,
        round_seconds=shares.round_seconds,
        execution=execution,
        element_bytes=2,
        note="",
    )
    return replace(
        found,
        note=(
            f"estimated, nothing measured: peaks of the data sheet ({sheet.flops / 1e12:g} "
            f"TFLOP/s, {sheet.bandwidth / 1e9:g} GB/s, {sheet.sms} SMs) times {compute:g} "
            f"(products), {bandwidth:g} (weights), {attention:g} (keys and values); tiles of "
            f"{' or '.join(map(str, TILE_TOKENS))} tokens by {TILE_COLUMNS}; {_fixed(found)}; no "
            "padding to captured sizes"
        ),
    )


def cpu_machine(
    name: str, flops: float, bandwidth: float, memory_bytes: int, shares: Shares
) -> Machine:
    """A CPU in float32, by peaks that its user states, so without further shares by default.

    A core that waits for memory does not multiply, so reading and computing add up.
    """
    for option, value in (("--flops", flops), ("--bandwidth", bandwidth)):
        if not 0 < value < float("inf"):
            raise InputError(f"{option}: expected a positive number, got {value}")
    compute, reading = (1.0 if x is None else x for x in (shares.compute, shares.bandwidth))
    attention = reading if shares.attention is None else shares.attention
    kernel = CPU_KERNEL_SECONDS if shares.kernel_seconds is None else shares.kernel_seconds
    found = Machine(
        name=name,
        kind="cpu",
        memory_bytes=memory_bytes,
        capability=None,
        l2_bytes=None,
        flops=compute * flops,
        bandwidth=reading * bandwidth,
        kv_bandwidth=attention * bandwidth,
        units=1,
        tile_tokens=(1,),
        tile_columns=1,
        splits=(1,),
        overlap=False,
        kernel_seconds=kernel,
        attention_seconds=0.0,
        step_seconds=shares.step_seconds,
        round_seconds=shares.round_seconds,
        execution="eager",
        element_bytes=4,
        note="",
    )
    return replace(
        found,
        note=(
            f"estimated, nothing measured: stated peaks ({flops / 1e9:g} GFLOP/s, "
            f"{bandwidth / 1e9:g} GB/s) times {compute:g} (products), {reading:g} (weights), "
            f"{attention:g} (keys and values), added up; no tiles; {_fixed(found)}"
        ),
    )


def _fixed(machine: Machine) -> str:
    return (
        f"{1e6 * machine.kernel_seconds:g} us a kernel ({machine.execution}), "
        f"{1e6 * machine.step_seconds:g} us a draft step, {1e3 * machine.round_seconds:g} ms a "
        "round"
    )

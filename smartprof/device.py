"""What machine this is: the fields that a profile's key holds, and its state while measuring.

Reads only; never changes clocks or modes. Torch is imported when a function needs it.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import psutil
import pynvml

from smartprof import __version__
from smartprof.errors import DeviceError
from smartprof.format import bytes_text

MACHINE_ID = Path("/etc/machine-id")
CPU_INFO = Path("/proc/cpuinfo")
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# A container's memory: its limit, what is used of it, and the member of memory.stat that tells how
# much of that is file cache which can be had back. Of control groups version 2, then of version 1.
MEMORY_LIMITS = (
    (CPU_QUOTA.parent, "memory.max", "memory.current", "inactive_file"),
    (
        CPU_QUOTA.parent / "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)
CLOCK_EVENT_PREFIX = "nvmlClocksEventReason"
HERTZ_PER_MEGAHERTZ = 1_000_000
DIGEST_LENGTH = 16
BUSY_LOAD = 1.0  # runnable processes besides ours from which timings are suspect

Missing = dict[str, str]


@dataclass(frozen=True)
class Device:
    """A processor that runs forward passes.

    Attributes:
        index: number of the GPU as torch counts; None for the CPU.
        uuid_digest: tells two devices of one name apart without naming either; None if unknown.
        memory_bytes: all of its memory, free or not.
        capability: CUDA compute capability ("9.0"), or the CPU's vector instructions ("AVX512").
        driver: NVIDIA driver version; None on the CPU or without NVML.
        threads: worker threads of the CPU; None for a GPU.
        torch_device: its name in torch.
    """

    kind: Literal["cpu", "cuda"]
    index: int | None
    name: str
    uuid_digest: str | None
    memory_bytes: int
    capability: str | None
    driver: str | None
    threads: int | None
    torch_device: str


@dataclass(frozen=True)
class NvmlReading:
    """State of a GPU at one moment. A value that could not be read is None and is in `missing`."""

    driver: str | None
    sm_clock_hertz: int | None
    max_sm_clock_hertz: int | None
    memory_clock_hertz: int | None
    temperature_celsius: int | None
    power_watts: float | None
    clock_events: tuple[str, ...] | None
    missing: Missing

    @property
    def thermally_throttled(self) -> bool | None:
        """Whether heat holds the clock down now; None when NVML does not say."""
        if self.clock_events is None:
            return None
        return any("Thermal" in event for event in self.clock_events)

    @property
    def power_capped(self) -> bool | None:
        """Whether the power limit holds the clock down now; None when NVML does not say."""
        if self.clock_events is None:
            return None
        return "SwPowerCap" in self.clock_events


def resolve_device(asked: str = "auto") -> Device:
    """Turn what the user wrote after `--gpu` into a device.

    Args:
        asked: "auto" (the first usable GPU, otherwise the CPU), "cpu", "cuda" (GPU 0), "cuda:N".

    Raises:
        DeviceError: an unknown name, CUDA that torch cannot use, or a GPU that is not there.
    """
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d+))?", asked)
    if match is None:
        raise DeviceError(
            f"unknown device {asked!r}: expected auto, cpu, cuda or cuda:N; one GPU, tensor "
            "parallelism is not supported"
        )
    if asked == "cpu":
        return _cpu_device()
    if asked == "auto":
        first = _first_usable_gpu()
        return _cpu_device() if first is None else _cuda_device(first)
    index = int(match.group(1) or 0)
    _require_gpu(index)
    return _cuda_device(index)


def describe_device(device: Device, asked: str = "auto") -> str:
    """One line saying what was taken, and why no GPU if `auto` took the CPU."""
    memory = bytes_text(device.memory_bytes)
    details = f"{device.name}, {memory}"
    if device.kind == "cpu":
        details = f"{device.name}, {device.threads} threads, {memory}"
    if asked != "auto":
        return f"device {device.torch_device}: {details}"
    reason = f" (no GPU: {_why_no_cuda()})" if device.kind == "cpu" else ""
    return f"auto took {device.torch_device}: {details}{reason}"


def set_threads(count: int | None = None) -> int:
    """Fix torch's worker threads to `count`, by default one per physical core; returns it."""
    import torch

    chosen = physical_cores() if count is None else count
    torch.set_num_threads(chosen)
    return chosen


def physical_cores() -> int:
    """Physical cores that this process may use: not more than its affinity and its quota allow."""
    limits = [psutil.cpu_count(logical=False), psutil.cpu_count(logical=True), _cpu_quota()]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    return min(limit for limit in limits if limit is not None)


def load_average() -> float | None:
    """Runnable processes over the last minute; None where the system does not count them."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def free_bytes(torch_device: str) -> int:
    """Memory that can still be had on a device, in bytes: on the CPU within a container's limit."""
    if torch_device == "cpu":
        limits = (_container_free(*x) for x in MEMORY_LIMITS)
        available = int(psutil.virtual_memory().available)
        return min([available, *(x for x in limits if x is not None)])
    import torch

    torch.cuda.empty_cache()  # blocks that torch keeps for itself are free, too
    return int(torch.cuda.mem_get_info(torch.device(torch_device))[0])


def device_key(device: Device) -> dict[str, Any]:
    """The `device` part of a profile's key."""
    fields = asdict(device)
    del fields["index"], fields["torch_device"]
    return fields


def software_key() -> dict[str, str | None]:
    """The `software` part of a profile's key."""
    import torch

    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "smartprof": __version__,
        "cuda": torch.version.cuda,
    }


# One question per field of NvmlReading; every GPU answers some and refuses others.
NVML_QUERIES: dict[str, Callable[[Any], Any]] = {
    "driver": lambda _: str(pynvml.nvmlSystemGetDriverVersion()),
    "sm_clock_hertz": lambda gpu: _hertz(pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM)),
    "max_sm_clock_hertz": lambda gpu: _hertz(
        pynvml.nvmlDeviceGetMaxClockInfo(gpu, pynvml.NVML_CLOCK_SM)
    ),
    "memory_clock_hertz": lambda gpu: _hertz(
        pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM)
    ),
    "temperature_celsius": lambda gpu: pynvml.nvmlDeviceGetTemperature(
        gpu, pynvml.NVML_TEMPERATURE_GPU
    ),
    "power_watts": lambda gpu: pynvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
    "clock_events": lambda gpu: _event_names(pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)),
}


class NvmlMonitor:
    """Reads clocks, heat and power of one GPU, as often as asked. Use as a context manager.

    Works without NVML too: every value is then None, with the reason in `missing`.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._handle: Any = None
        self._open = False
        self._reason: str | None = None

    def __enter__(self) -> Self:
        if self._device.kind != "cuda":
            self._reason = "not an NVIDIA GPU"
            return self
        try:
            pynvml.nvmlInit()
            self._open = True
            self._handle = _nvml_handle(_gpu_uuid(self._device.index or 0))
        except (pynvml.NVMLError, DeviceError) as error:
            self._reason = str(error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._open:
            pynvml.nvmlShutdown()
            self._open = False
        self._handle = None

    def read(self) -> NvmlReading:
        """The present state; takes well under a millisecond per value."""
        values: dict[str, Any] = dict.fromkeys(NVML_QUERIES)
        missing: Missing = {}
        for name, query in NVML_QUERIES.items():
            if self._handle is None:
                missing[name] = self._reason or "the monitor is not open"
                continue
            try:
                values[name] = query(self._handle)
            except pynvml.NVMLError as error:
                missing[name] = str(error)
        return NvmlReading(**values, missing=missing)


def _cpu_device() -> Device:
    import torch

    name = cpu_name()
    return Device(
        kind="cpu",
        index=None,
        name=name,
        uuid_digest=cpu_digest(name),
        memory_bytes=int(psutil.virtual_memory().total),
        capability=torch.backends.cpu.get_cpu_capability(),
        driver=None,
        threads=physical_cores(),
        torch_device="cpu",
    )


def _cuda_device(index: int) -> Device:
    import torch

    properties = torch.cuda.get_device_properties(index)
    uuid = _gpu_uuid(index, required=False)
    return Device(
        kind="cuda",
        index=index,
        name=properties.name,
        uuid_digest=None if uuid is None else identity_digest(uuid),
        memory_bytes=int(properties.total_memory),
        capability=f"{properties.major}.{properties.minor}",
        driver=_driver_version(),
        threads=None,
        torch_device=f"cuda:{index}",
    )


def _why_no_cuda() -> str | None:
    """Why torch has no GPU to offer, or None if it has one."""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available() or torch.cuda.device_count() == 0:
        return "torch finds no NVIDIA driver or no GPU"
    return None if _first_usable_gpu() is not None else "no GPU answers"


def _require_gpu(index: int) -> None:
    import torch

    if torch.version.cuda is None or not torch.cuda.is_available():
        raise DeviceError(f"CUDA is not available ({_why_no_cuda()}): use --gpu cpu or --gpu auto")
    count = torch.cuda.device_count()
    if index >= count:
        raise DeviceError(f"no GPU cuda:{index}: the last one that torch sees is cuda:{count - 1}")
    problem = _gpu_problem(index)
    if problem is not None:
        raise DeviceError(f"cuda:{index} cannot be used: {problem}")


def _first_usable_gpu() -> int | None:
    import torch

    if not torch.cuda.is_available():
        return None
    indices = range(torch.cuda.device_count())
    return next((index for index in indices if _gpu_problem(index) is None), None)


def _gpu_problem(index: int) -> str | None:
    """What a first allocation on the GPU complains about; None if it works."""
    import torch

    try:
        torch.zeros(1, device=f"cuda:{index}").item()
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None


def _gpu_uuid(index: int, *, required: bool = True) -> str | None:
    """The GPU's uuid as NVML spells it; torch and NVML may count GPUs differently."""
    import torch

    uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
    if uuid is None and required:
        raise DeviceError(f"torch {torch.__version__} does not tell the uuid of cuda:{index}")
    return None if uuid is None else f"GPU-{str(uuid).removeprefix('GPU-')}"


def _nvml_handle(uuid: str | None) -> Any:
    return pynvml.nvmlDeviceGetHandleByUUID(uuid)


def _driver_version() -> str | None:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _event_names(bits: int) -> tuple[str, ...]:
    """Names of the reasons set in NVML's bit mask, without their common prefix."""
    reasons = {
        name.removeprefix(CLOCK_EVENT_PREFIX): getattr(pynvml, name)
        for name in dir(pynvml)
        if name.startswith(CLOCK_EVENT_PREFIX) and not name.endswith(("All", "None"))
    }
    return tuple(sorted(name for name, bit in reasons.items() if bits & bit))


def _hertz(megahertz: int) -> int:
    return megahertz * HERTZ_PER_MEGAHERTZ


def cpu_name() -> str:
    """The processor's brand. The kernel's own list answers at once, the library takes a second."""
    try:
        text = CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(\S.*)$", text, flags=re.MULTILINE)
    if found is not None:
        return found.group(1).strip()
    import cpuinfo

    return str(cpuinfo.get_cpu_info().get("brand_raw") or platform.machine())


def cpu_digest(name: str) -> str | None:
    """Tells this machine from others with the same processor; None if it has no id."""
    try:
        machine = MACHINE_ID.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return identity_digest(f"{machine} {name}") if machine else None


def identity_digest(identity: str) -> str:
    """What a profile holds of an id that is nobody else's business."""
    return hashlib.sha256(identity.encode()).hexdigest()[:DIGEST_LENGTH]


def _cpu_quota() -> int | None:
    """Whole CPUs that a container's quota allows; None without a quota."""
    try:
        quota, period = CPU_QUOTA.read_text(encoding="utf-8").split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _container_free(folder: Path, limit: str, used: str, cached: str) -> int | None:
    """Bytes that a container may still take, file cache included; None without a limit."""
    try:
        bounds = [int((folder / x).read_text(encoding="utf-8")) for x in (limit, used)]
        lines = (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
        cache = next((int(x.split()[1]) for x in lines if x.split()[:1] == [cached]), 0)
    except (OSError, ValueError):  # no such file, or "max"
        return None
    return max(0, bounds[0] - bounds[1] + cache)

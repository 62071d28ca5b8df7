"""What this machine is as far as it can be read without torch, field by field of a profile's key.

`device.py` reads all of it, with torch. Here a field that only torch tells is left out by name.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import psutil
import pynvml

from smartprof import __version__
from smartprof.device import CPU_INFO, cpu_digest, cpu_name, identity_digest, physical_cores
from smartprof.errors import DeviceError

# Instruction sets as torch tells them (its get_cpu_capability), by flags of the kernel's list.
CAPABILITIES = (
    ("AVX512", {"avx512f", "avx512vl", "avx512bw", "avx512dq", "fma"}),
    ("AVX2", {"avx2", "fma"}),
)
ONLY_TORCH = "only torch tells"


@dataclass(frozen=True)
class Here:
    """device, software: fields of a profile's key. unread: why the others are not among them, by
    field ("device.capability").
    """

    device: dict[str, Any]
    software: dict[str, Any]
    unread: dict[str, str]


def read_here(asked: str, kind: str, name: str) -> Here:
    """The device to compare with a profile of a device of this kind and name.

    asked: "cpu", "cuda" (GPU 0 of NVML), "cuda:N", or "auto": a device of the profile's kind if
    there is one, the GPU of its name first, else the CPU. Raises DeviceError for an unknown name or
    a GPU that is not there.
    """
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d+))?", asked)
    if match is None:
        raise DeviceError(f"unknown device {asked!r}: expected auto, cpu, cuda, cuda:N or none")
    if asked == "cpu" or (asked == "auto" and kind == "cpu"):
        return _read_cpu()
    try:
        return _read_gpu(None if asked == "auto" else int(match.group(1) or 0), name)
    except pynvml.NVMLError as error:
        if asked == "auto":
            return _read_cpu()
        raise DeviceError(f"no GPU {asked} answers ({error}): use --gpu cpu or auto") from error


def _read_cpu() -> Here:
    capability = _cpu_capability()
    device = {
        "kind": "cpu",
        "name": cpu_name(),
        "uuid_digest": cpu_digest(cpu_name()),
        "memory_bytes": int(psutil.virtual_memory().total),
        "driver": None,
        "threads": physical_cores(),
    }
    unread = {"device.capability": ONLY_TORCH} if capability is None else {}
    known = {} if capability is None else {"capability": capability}
    return _with_software(device | known, unread)


def _read_gpu(index: int | None, name: str) -> Here:
    """The GPU of this number; without one, the first of this name, else the first."""
    with _nvml():
        if index is None:
            count = pynvml.nvmlDeviceGetCount()
            named = [x for x in range(count) if _gpu_name(x) == name]
            index = named[0] if named else 0
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        device = {
            "kind": "cuda",
            "name": _gpu_name(index),
            "uuid_digest": identity_digest(str(pynvml.nvmlDeviceGetUUID(handle))),
            "memory_bytes": int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
            "capability": f"{major}.{minor}",
            "driver": str(pynvml.nvmlSystemGetDriverVersion()),
            "threads": None,
        }
    return _with_software(device, {"software.cuda": ONLY_TORCH})


@contextmanager
def _nvml() -> Iterator[None]:
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _gpu_name(index: int) -> str:
    return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index)))


def _with_software(device: dict[str, Any], unread: dict[str, str]) -> Here:
    software: dict[str, Any] = {"python": platform.python_version(), "smartprof": __version__}
    try:
        software["torch"] = metadata.version("torch")
    except metadata.PackageNotFoundError:
        unread = unread | {"software.torch": "torch is not installed"}
    if device["kind"] == "cpu":
        unread = unread | {"software.cuda": "a CPU has no use for it"}
    return Here(device, software, unread)


def _cpu_capability() -> str | None:
    """The widest instruction set, None where the kernel does not list x86 flags."""
    try:
        text = CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^flags\s*:\s*(.*)$", text, flags=re.MULTILINE)
    flags = set(found.group(1).split()) if found else set()
    return next((x for x, needed in CAPABILITIES if needed <= flags), None)

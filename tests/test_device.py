"""Devices found, refused and described, with a made-up NVML and a made-up CUDA."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pynvml
import pytest
import torch

from smartprof import __version__, device
from smartprof.device import (
    Device,
    NvmlMonitor,
    describe_device,
    device_key,
    free_bytes,
    load_average,
    physical_cores,
    resolve_device,
    set_threads,
    software_key,
)
from smartprof.errors import DeviceError

UUIDS = ["11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-000000000000"]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Two GPUs that torch sees; the set holds those that fail at the first allocation."""
    broken: set[int] = set()

    def properties(index: int) -> SimpleNamespace:
        return SimpleNamespace(
            name=f"Fast GPU {index}", total_memory=80 << 30, major=9, minor=0, uuid=UUIDS[index]
        )

    def problem(index: int) -> str | None:
        return "CUDA error: out of memory" if index in broken else None

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(device, "_gpu_problem", problem)
    return broken


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


def not_found(*_: object) -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)


@pytest.fixture
def no_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", not_found)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An NVML that knows both GPUs; the list collects what opens and closes it."""
    calls: list[str] = []
    clocks = {pynvml.NVML_CLOCK_SM: 1755, pynvml.NVML_CLOCK_MEM: 2619}
    events = pynvml.nvmlClocksEventReasonSwPowerCap | pynvml.nvmlClocksEventReasonGpuIdle
    answers = {
        "nvmlInit": lambda: calls.append("init"),
        "nvmlShutdown": lambda: calls.append("shutdown"),
        "nvmlSystemGetDriverVersion": lambda: "580.65.06",
        "nvmlDeviceGetHandleByUUID": lambda uuid: f"handle of {uuid}",
        "nvmlDeviceGetClockInfo": lambda handle, kind: clocks[kind],
        "nvmlDeviceGetMaxClockInfo": lambda handle, kind: 1980,
        "nvmlDeviceGetTemperature": lambda handle, kind: 61,
        "nvmlDeviceGetPowerUsage": lambda handle: 412_500,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda handle: events,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    return calls


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", "", "cpu:0", "mps"])
def test_an_unknown_name_lists_what_can_be_asked_for(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        resolve_device(name)
    assert str(caught.value) == (
        f"unknown device {name!r}: expected auto, cpu, cuda or cuda:N; one GPU, tensor "
        "parallelism is not supported"
    )


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("built_with", [None, "13.0"])
def test_cuda_that_torch_cannot_use_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, built_with: str | None
) -> None:
    monkeypatch.setattr(torch.version, "cuda", built_with)
    with pytest.raises(DeviceError, match="CUDA is not available") as caught:
        resolve_device("cuda")
    reason = "finds no NVIDIA driver" if built_with else "is built without CUDA"
    assert reason in str(caught.value)
    assert "--gpu cpu" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("gpus", "no_nvml")
def test_a_gpu_beyond_the_last_one_is_refused_with_the_count() -> None:
    with pytest.raises(DeviceError, match="no GPU cuda:2: the last one that torch sees is cuda:1"):
        resolve_device("cuda:2")


@pytest.mark.usefixtures("no_nvml")
def test_a_gpu_that_fails_at_once_is_refused_by_name_and_skipped_by_auto(gpus: set[int]) -> None:
    gpus.add(0)
    with pytest.raises(DeviceError, match="cuda:0 cannot be used: CUDA error: out of memory"):
        resolve_device("cuda")
    assert resolve_device("auto").torch_device == "cuda:1"
    gpus.add(1)
    taken = resolve_device("auto")
    assert taken.kind == "cpu"
    assert "(no GPU: no GPU answers)" in describe_device(taken)


@pytest.mark.usefixtures("gpus", "nvml")
def test_a_gpu_is_described_by_torch_and_nvml() -> None:
    assert resolve_device("cuda:1") == Device(
        kind="cuda",
        index=1,
        name="Fast GPU 1",
        uuid_digest=digest(f"GPU-{UUIDS[1]}"),
        memory_bytes=80 << 30,
        capability="9.0",
        driver="580.65.06",
        threads=None,
        torch_device="cuda:1",
    )
    assert resolve_device("cuda") == resolve_device("cuda:0") == resolve_device("auto")
    assert describe_device(resolve_device()) == "auto took cuda:0: Fast GPU 0, 80.0 GiB"


@pytest.mark.usefixtures("gpus", "no_nvml")
def test_without_nvml_the_driver_is_unknown_and_the_rest_still_there() -> None:
    found = resolve_device("cuda")
    assert found.driver is None
    assert found.uuid_digest == digest(f"GPU-{UUIDS[0]}")


@pytest.mark.usefixtures("gpus", "no_nvml")
def test_a_torch_that_hides_the_uuid_leaves_it_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = SimpleNamespace(name="GPU", total_memory=1, major=8, minor=6)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: bare)
    assert resolve_device("cuda").uuid_digest is None


@pytest.mark.usefixtures("gpus")
def test_a_reading_has_units_and_names_and_closes_nvml(nvml: list[str]) -> None:
    found = resolve_device("cuda")
    nvml.clear()
    with NvmlMonitor(found) as monitor:
        reading = monitor.read()
    assert nvml == ["init", "shutdown"]
    assert reading.missing == {}
    assert (reading.driver, reading.temperature_celsius) == ("580.65.06", 61)
    assert reading.power_watts == 412.5
    assert (reading.sm_clock_hertz, reading.memory_clock_hertz) == (1_755_000_000, 2_619_000_000)
    assert reading.max_sm_clock_hertz == 1_980_000_000
    assert reading.clock_events == ("GpuIdle", "SwPowerCap")
    assert reading.power_capped is True
    assert reading.thermally_throttled is False


@pytest.mark.usefixtures("gpus", "nvml")
def test_heat_is_told_apart_from_power(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SwThermalSlowdown", "HwThermalSlowdown"):
        bits = getattr(pynvml, f"nvmlClocksEventReason{name}")
        monkeypatch.setattr(
            pynvml, "nvmlDeviceGetCurrentClocksEventReasons", lambda _, bits=bits: bits
        )
        with NvmlMonitor(resolve_device("cuda")) as monitor:
            reading = monitor.read()
        assert (reading.thermally_throttled, reading.power_capped) == (True, False)


@pytest.mark.usefixtures("gpus", "nvml")
def test_a_value_that_nvml_refuses_is_missing_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", refuse)
    with NvmlMonitor(resolve_device("cuda")) as monitor:
        reading = monitor.read()
    assert reading.missing == {"power_watts": "Not Supported"}
    assert reading.power_watts is None
    assert reading.temperature_celsius == 61


@pytest.mark.usefixtures("gpus", "no_nvml")
def test_without_nvml_every_value_is_missing_and_nothing_fails() -> None:
    with NvmlMonitor(resolve_device("cuda")) as monitor:
        reading = monitor.read()
    assert reading.thermally_throttled is reading.power_capped is None
    values = {name for name, value in vars(reading).items() if name != "missing" and value is None}
    assert set(reading.missing) == values == set(vars(reading)) - {"missing"}
    assert set(reading.missing.values()) == {"NVML Shared Library Not Found"}


def test_the_cpu_has_no_nvml_values() -> None:
    with NvmlMonitor(resolve_device("cpu")) as monitor:
        assert set(monitor.read().missing.values()) == {"not an NVIDIA GPU"}


@pytest.mark.usefixtures("no_gpu")
def test_auto_takes_the_cpu_when_there_is_no_gpu_and_says_why() -> None:
    found = resolve_device("auto")
    assert found == resolve_device("cpu")
    assert (found.kind, found.torch_device, found.driver) == ("cpu", "cpu", None)
    assert found.memory_bytes == psutil.virtual_memory().total
    line = describe_device(found)
    assert line.startswith(f"auto took cpu: {found.name}, {found.threads} threads, ")
    assert "(no GPU: torch" in line
    assert "no GPU" not in describe_device(found, asked="cpu")


def test_the_digest_of_a_cpu_needs_a_machine_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "machine-id"
    monkeypatch.setattr(device, "MACHINE_ID", file)
    assert resolve_device("cpu").uuid_digest is None
    file.write_text("\n")
    assert resolve_device("cpu").uuid_digest is None
    file.write_text("0123abcd\n")
    found = resolve_device("cpu")
    assert found.uuid_digest == digest(f"0123abcd {found.name}")


def test_the_cpu_is_named_by_the_kernel_or_else_by_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(device, "CPU_INFO", file)
    monkeypatch.setattr("cpuinfo.get_cpu_info", lambda: {"brand_raw": "By The Library"})
    assert resolve_device("cpu").name == "By The Library"
    monkeypatch.setattr("cpuinfo.get_cpu_info", dict)
    assert resolve_device("cpu").name == platform.machine()
    file.write_text("processor\t: 0\nmodel name\t: By The Kernel @ 2 GHz \nmodel name\t: Other\n")
    assert resolve_device("cpu").name == "By The Kernel @ 2 GHz"


@pytest.mark.parametrize(
    ("physical", "logical", "affinity", "quota", "expected"),
    [
        (8, 16, 16, "max 100000", 8),
        (8, 16, 4, "max 100000", 4),
        (8, 16, 16, "250000 100000", 3),
        (8, 16, 16, "1000 100000", 1),
        (None, 6, 6, "", 6),
    ],
)
def test_threads_are_the_physical_cores_that_may_be_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    physical: int | None,
    logical: int,
    affinity: int,
    quota: str,
    expected: int,
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(device, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(
        psutil,
        "cpu_count",
        lambda logical_cores=None, **k: logical if k.get("logical", logical_cores) else physical,
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    assert physical_cores() == expected
    assert resolve_device("cpu").threads == expected


def test_threads_are_set_in_torch_and_told() -> None:
    before = torch.get_num_threads()
    try:
        assert set_threads(1) == torch.get_num_threads() == 1
        assert set_threads() == torch.get_num_threads() == physical_cores()
    finally:
        torch.set_num_threads(before)


def test_the_key_holds_what_a_profile_needs_and_nothing_that_is_a_mere_index() -> None:
    found = resolve_device("cpu")
    key = device_key(found)
    fields = "kind name uuid_digest memory_bytes capability driver threads"
    assert list(key) == fields.split()
    assert key == device_key(replace(found, index=5, torch_device="x"))
    assert software_key() == {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "smartprof": __version__,
        "cuda": torch.version.cuda,
    }


def test_load_is_a_number_or_unknown_but_never_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 2.0, 3.0), raising=False)
    assert load_average() == 1.5
    monkeypatch.delattr(os, "getloadavg")
    assert load_average() is None


def test_free_memory_is_less_than_all_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < free_bytes("cpu") < resolve_device("cpu").memory_bytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: (123, where.index))
    assert free_bytes("cuda:1") == 123


def test_the_module_loads_without_torch() -> None:
    code = "import sys, smartprof.device; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "1000", "memory.current": "800", "memory.stat": "inactive_file 50"}, 250),
        ({"memory.max": "1000", "memory.current": "1200", "memory.stat": "inactive_file 50"}, 0),
        ({"memory.max": "1000", "memory.current": "800", "memory.stat": "anon 5\nfile 9"}, 200),
        ({"memory.max": "max", "memory.current": "800", "memory.stat": ""}, 5000),
        ({"memory.max": "99000", "memory.current": "8", "memory.stat": ""}, 5000),
        (
            {
                "memory/memory.limit_in_bytes": "1000",
                "memory/memory.usage_in_bytes": "800",
                "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 60\n",
            },
            260,
        ),
        ({}, 5000),
    ],
)
def test_free_memory_stays_within_a_container_s_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int
) -> None:
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (_, *second), (_, *first) = device.MEMORY_LIMITS
    limits = ((tmp_path, *second), (tmp_path / "memory", *first))
    monkeypatch.setattr(device, "MEMORY_LIMITS", limits)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5000))
    assert free_bytes("cpu") == expected

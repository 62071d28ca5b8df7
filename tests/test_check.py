"""Is a profile complete, stable, recent, and of what is here? And do its points still hold?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pynvml
import pytest

from smartprof import device, here
from smartprof.calibrate import spot_timer, sweep
from smartprof.calibrate.spots import Overall, choose_spots, overall
from smartprof.check_command import overall_finding
from smartprof.device import device_key, resolve_device, software_key
from smartprof.errors import DeviceError, InputError
from smartprof.here import read_here
from smartprof.profile.checks import (
    Finding,
    check_complete,
    check_device,
    check_recent,
    check_stable,
    check_target,
)
from smartprof.profile.files import save_profile
from smartprof.profile.quality import NO_ERRORS
from smartprof.profile.schema import ModelKey, Profile
from tests.profiles import make_profile, make_surface
from tests.test_cli import refused, smartprof
from tests.tiny_model import write_tiny_model

WIDE = {"batches": (1, 4, 16), "sizes": (1, 4, 16, 64, 256)}
NOW = datetime(2026, 2, 10, 12, tzinfo=UTC)


def judged(noise: float | None = 1.0, error: float | None = 2.0, warnings: tuple[str, ...] = ()):
    profile = make_profile(**WIDE)
    errors = NO_ERRORS
    if error is not None:
        names = ("mean", "median", "p95", "max")
        errors = NO_ERRORS.model_copy(
            update={"count": 9, "bias_pct": 0.0, **{f"{x}_abs_pct": error for x in names}}
        )
    update = {"noise_floor_pct": noise, "held_out": errors, "warnings": list(warnings)}
    quality = profile.quality.model_copy(update=update)
    return profile.model_copy(update={"quality": quality})


def marks(findings: list[Finding]) -> dict[str, str]:
    return {x.name: x.mark for x in findings}


def test_a_wide_quiet_profile_is_complete_and_stable() -> None:
    profile = judged()
    assert set(marks(check_complete(profile)).values()) == {"OK"}
    assert set(marks(check_stable(profile)).values()) == {"OK"}


def test_a_profile_that_prices_no_drafter_fails() -> None:
    assert marks(check_complete(make_profile(drafters=(), **WIDE)))["quantities"] == "FAIL"


@pytest.mark.parametrize(
    "narrow",
    [
        {"batches": (1, 4), "sizes": (1, 4, 256)},
        {"batches": (4, 16), "sizes": (4, 16, 256)},
        {"batches": (1, 16), "sizes": (1, 16, 128)},
    ],
)
def test_a_range_that_shipped_policies_leave_is_warned_of(narrow: dict[str, Any]) -> None:
    assert marks(check_complete(make_profile(**narrow)))["range"] == "WARN"


@pytest.mark.parametrize(("top", "mark"), [(256, "OK"), (64, "WARN"), (63, "FAIL")])
def test_a_quantity_that_ends_early_is_extrapolated_and_beyond_two_octaves_unpriced(
    top: int, mark: str
) -> None:
    profile = make_profile(**WIDE)
    surface = make_surface(
        "round_overhead", lambda *x: 1e-3, batches=(1, 4, 16), sizes=(1, 16, top)
    )
    short = profile.model_copy(update={"round_overhead": surface})
    found = next(x for x in check_complete(short) if x.name == "coverage")
    assert found.mark == mark
    if mark != "OK":
        assert f"round_overhead to tokens {top} of 256" in found.text


@pytest.mark.parametrize(
    ("noise", "error", "wanted"),
    [
        (2.0, 6.0, ("OK", "OK")),
        (2.1, 6.1, ("WARN", "WARN")),
        (10.1, 15.1, ("FAIL", "FAIL")),
        (None, None, ("WARN", "WARN")),  # not known is not good
    ],
)
def test_noise_and_error_have_bars(
    noise: float | None, error: float | None, wanted: tuple[str, str]
) -> None:
    found = marks(check_stable(judged(noise, error)))
    assert (found["noise"], found["error"]) == wanted


def test_what_the_calibration_warned_of_and_an_origin_elsewhere_are_repeated() -> None:
    profile = judged(warnings=("the machine was busy",))
    assert Finding("warning", "WARN", "the machine was busy") in check_stable(profile)
    origin = profile.provenance.model_copy(update={"kind": "imported", "note": "from a friend"})
    found = check_stable(profile.model_copy(update={"provenance": origin}))
    assert found[0].mark == "WARN"
    assert "from a friend" in found[0].text


@pytest.mark.parametrize(
    ("created", "mark"),
    [
        ("2026-02-10T11:00:00Z", "OK"),
        ("2026-01-12T12:00:00Z", "OK"),
        ("2026-01-10T12:00:00Z", "WARN"),
        ("2026-02-11T12:00:00Z", "WARN"),  # a clock was wrong
    ],
)
def test_a_profile_grows_old_in_a_month(created: str, mark: str) -> None:
    profile = make_profile().model_copy(update={"created": created})
    assert check_recent(profile, NOW).mark == mark


def test_differences_fail_or_warn_as_the_table_of_keys_says_and_unread_fields_do_not() -> None:
    profile = make_profile()
    key = profile.key
    own = key.device.model_dump(), key.software.model_dump()
    assert marks(check_device(profile, *own, {})) == {"device": "OK"}
    found = check_device(profile, own[0] | {"name": "Other CPU"}, own[1], {})
    assert [x.mark for x in found] == ["FAIL"]
    assert "'Test CPU', here is 'Other CPU'" in found[0].text
    assert marks(check_device(profile, own[0], own[1] | {"torch": "3"}, {})) == {"software": "WARN"}
    unread = {"software.torch": "torch is not installed", "device.capability": "only torch tells"}
    fields = {x: y for x, y in own[1].items() if x != "torch"}
    found = check_device(profile, own[0], fields, unread)
    assert marks(found) == {"device": "OK", "unread": "SKIP"}
    assert "capability" not in found[1].text  # the profile has none, so nothing is left open


def test_what_an_imported_profile_does_not_tell_is_left_open_and_not_called_different() -> None:
    profile = make_profile()
    software = profile.key.software.model_copy(update={"torch": "not stated"})
    key = profile.key.model_copy(update={"software": software})
    origin = profile.provenance.model_copy(update={"kind": "imported"})
    imported = profile.model_copy(update={"key": key, "provenance": origin})
    here_fields = key.device.model_dump() | {"capability": "AVX512", "uuid_digest": "ff"}
    found = check_device(imported, here_fields, {"torch": "2.9.0"}, {})
    assert marks(found) == {"device": "OK", "unread": "SKIP"}
    for field in ("device capability", "device uuid digest", "software torch"):
        assert f"{field} (the profile does not tell)" in found[1].text
    measured = profile.model_copy(update={"key": key})
    assert marks(check_device(measured, here_fields, {}, {}))["device"] == "FAIL"


def test_another_target_fails_and_none_asked_for_is_said() -> None:
    profile = make_profile()
    own = profile.key.target
    assert check_target(profile, None)[0].mark == "SKIP"
    assert check_target(profile, own)[0].mark == "OK"
    assert check_target(profile, own.model_copy(update={"digest": "ff"}))[0].mark == "FAIL"
    other = ModelKey(name="other", digest="ff", parameters=5)
    assert check_target(profile, other)[0].mark == "FAIL"


def test_what_is_read_without_torch_is_what_torch_reads() -> None:
    found = read_here("cpu", "cpu", "")
    wanted = device_key(resolve_device("cpu"))
    assert found.device == {x: y for x, y in wanted.items() if f"device.{x}" not in found.unread}
    software = software_key()
    assert found.software == {x: software[x] for x in ("python", "torch", "smartprof")}
    code = "import sys; from smartprof.here import read_here; read_here('auto', 'cpu', ''); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs that NVML would tell of."""
    names = ["L4", "H100"]
    answers: dict[str, Callable[..., Any]] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda x: x,
        "nvmlDeviceGetName": lambda x: names[x],
        "nvmlDeviceGetUUID": lambda x: f"GPU-{x}",
        "nvmlDeviceGetMemoryInfo": lambda x: type("Memory", (), {"total": 80 * 2**30}),
        "nvmlDeviceGetCudaComputeCapability": lambda x: (9, 0),
        "nvmlSystemGetDriverVersion": lambda: "580.1",
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)


@pytest.mark.usefixtures("gpus")
def test_auto_takes_the_gpu_of_the_profiles_name() -> None:
    assert read_here("auto", "cuda", "H100").device["name"] == "H100"
    assert read_here("auto", "cuda", "A100").device["name"] == "L4"
    assert read_here("auto", "cpu", "H100").device["kind"] == "cpu"
    found = read_here("cuda:1", "cpu", "")
    assert found.device == {
        "kind": "cuda",
        "name": "H100",
        "uuid_digest": device.identity_digest("GPU-1"),
        "memory_bytes": 80 * 2**30,
        "capability": "9.0",
        "driver": "580.1",
        "threads": None,
    }
    assert "software.cuda" in found.unread


def test_without_a_gpu_auto_takes_the_cpu_and_a_gpu_asked_for_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    assert read_here("auto", "cuda", "H100").device["kind"] == "cpu"
    with pytest.raises(DeviceError, match="no GPU cuda answers"):
        read_here("cuda", "cuda", "H100")
    with pytest.raises(DeviceError, match="unknown device 'tpu'"):
        read_here("tpu", "cuda", "H100")


def test_a_cpu_whose_flags_nobody_lists_has_no_capability(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(here, "CPU_INFO", tmp_path / "none")
    found = read_here("cpu", "cpu", "")
    assert "capability" not in found.device
    assert found.unread["device.capability"] == "only torch tells"


def test_five_spots_are_measured_points_spread_over_the_domain() -> None:
    profile = make_profile(**WIDE)
    spots = choose_spots(profile)
    assert len({x.point for x in spots}) == 5
    verify = [x.point for x in spots if x.point.quantity == "verify"]
    assert [x.point.quantity for x in spots].count("plain_decode") == 1
    assert (verify[0].batch, verify[0].size, verify[0].context) == (1, 1, 64)
    assert {x.batch for x in verify} >= {1, 16}
    assert {x.context for x in verify} >= {64, 1024}
    assert 256 in {x.size for x in verify}
    anchors = {(x.batch, x.size, x.context): x.seconds for x in profile.verify.anchors}
    for spot in spots[:4]:
        point = spot.point
        assert spot.seconds == anchors[point.batch, point.size, point.context]


def test_a_profile_without_measured_points_has_nothing_to_measure_again() -> None:
    profile = make_profile()
    bare = profile.model_copy(update={"verify": profile.verify.model_copy(update={"anchors": []})})
    with pytest.raises(InputError, match="measured points to time again"):
        choose_spots(bare)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "SAME"), (1.2, "SLOW"), (0.8, "FAST")])
def test_points_timed_again_get_the_verdict_of_their_ratio(
    monkeypatch: pytest.MonkeyPatch, factor: float, verdict: str
) -> None:
    profile = make_profile(half_width=0.01, **WIDE)
    spots = choose_spots(profile)
    seconds = {x.point: x.seconds for x in spots}
    times: Iterator[float] = iter([0.995, 1.0, 1.005] * 1000)
    monkeypatch.setattr(spot_timer, "open_bench", lambda calibration: None)
    monkeypatch.setattr(
        spot_timer,
        "sampler",
        lambda bench, point: lambda: factor * seconds[point] * next(times),
    )
    found = spot_timer.time_spots(fake_calibration(profile), spots)
    assert [x.spot for x in found] == spots
    assert {x.verdict for x in found} == {verdict}
    assert min(x.now.samples for x in found) >= spot_timer.VISITS * spot_timer.LEAST_SAMPLES
    assert overall(found).verdict == verdict
    assert overall(found).ratio == pytest.approx(factor, rel=0.005)


def fake_calibration(profile: Profile) -> Any:
    from smartprof.calibrate.plan import make_plan
    from smartprof.calibrate.run import Calibration
    from smartprof.models.shapes import named_shape

    plan = make_plan("quick", named_shape("SmolLM2-135M"), 10**12, 4, 8192, ["ngram"])
    nothing: Any = None
    return Calibration(nothing, nothing, nothing, plan, 0.0, "")


@pytest.mark.parametrize(
    ("ratio", "half_width", "mark"),
    [
        (1.0, 0.01, "OK"),
        (1.0, 0.2, "WARN"),  # too noisy to tell
        (3.00, 0.5, "WARN"),  # slower for sure, but on a machine that is busy now
        (1.08, 0.01, "WARN"),
        (1.12, 0.01, "FAIL"),
        (0.85, 0.01, "FAIL"),  # faster is as wrong
    ],
)
def test_prices_far_off_fail(ratio: float, half_width: float, mark: str) -> None:
    assert overall_finding(Overall(ratio, 0.01, half_width)).mark == mark


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A tiny model and its profile, quickly."""
    folder = tmp_path_factory.mktemp("check")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "physical_cores", lambda: 1)
        patch.setattr(here, "physical_cores", lambda: 1)
        write_tiny_model(folder / "tiny")
        given = ("--gpu", "cpu", "--target", folder / "tiny", "--budget", 0)
        result = smartprof("calibrate", *given, "--out", folder / "p.json")
        assert result.code == 0, result
        yield folder / "tiny", folder / "p.json"


def test_check_measures_five_points_again_on_the_device(
    calibrated: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spot_timer, "VISIT_SECONDS", 0.0)
    target, profile = calibrated
    result = smartprof("check", profile, "--target", target, "--on-device")
    lines = result.out.splitlines()
    timed = [x for x in lines if x.split()[0] in ("SAME", "FAST", "SLOW", "AMBIGUOUS")]
    assert len(timed) == 5
    assert any(" on device: " in x for x in lines)
    assert result.code == (1 if any(x.startswith("FAIL") for x in lines) else 0)
    assert any(x.startswith("OK    device: ") for x in lines)
    assert any(x.startswith("OK    target: tiny") for x in lines)


def test_on_device_refuses_another_target_than_the_profiles(
    calibrated: tuple[Path, Path], tmp_path: Path
) -> None:
    result = smartprof("check", calibrated[1], "--target", "shape:tiny-llama", "--on-device")
    assert result.code == 1
    assert "expected the profile's target to measure again" in result.err.splitlines()[-1]
    line = refused(tmp_path, "check", calibrated[1], "--on-device", "--gpu", "none")
    assert "got both" in line


@pytest.mark.parametrize("gpu", ["auto", "cpu"])
def test_a_gpu_s_profile_is_refused_on_a_cpu_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("smartprof.models.loading.load_model", lambda *_: pytest.fail("loaded"))
    found = make_profile(**WIDE)
    there = found.key.device.model_copy(update={"kind": "cuda", "name": "Fast GPU"})
    key = found.key.model_copy(update={"device": there})
    save_profile(found.model_copy(update={"key": key}), tmp_path / "gpu.json")
    given = ("--target", "shape:tiny-llama", "--on-device", "--gpu", gpu)
    result = smartprof("check", tmp_path / "gpu.json", *given)
    assert result.code == 1
    line = result.err.splitlines()[-1]
    assert "expected a cuda device to measure on, as in the profile (Fast GPU), got cpu" in line


def test_exit_code_is_1_if_anything_fails(tmp_path: Path) -> None:
    save_profile(make_profile(**WIDE), tmp_path / "good.json")
    save_profile(make_profile(drafters=(), **WIDE), tmp_path / "bad.json")
    good = smartprof("check", tmp_path / "good.json", "--gpu", "none")
    assert good.code == 0
    assert "FAIL" not in good.out
    bad = smartprof("check", tmp_path / "bad.json", "--gpu", "none")
    assert bad.code == 1
    assert "1 FAIL" in bad.out.splitlines()[-1]
    elsewhere = smartprof("check", tmp_path / "good.json", "--gpu", "cpu")
    assert elsewhere.code == 1
    assert "FAIL  device: device name: the profile has 'Test CPU'" in elsewhere.out
    assert "no model 'mine'" in refused(
        tmp_path, "check", tmp_path / "good.json", "--target", "mine"
    )


def test_check_reads_the_device_where_torch_is_not_installed(tmp_path: Path) -> None:
    save_profile(make_profile(**WIDE), tmp_path / "p.json")
    code = "import sys; sys.modules['torch'] = None; from smartprof import cli; "
    code += f"sys.argv = ['smartprof', 'check', {str(tmp_path / 'p.json')!r}]; cli.run()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1, run.stderr  # nobody has a Test CPU
    assert "here is" in run.stdout
    assert run.stderr == ""


def test_the_sweeps_sampler_is_the_one_that_measures_again() -> None:
    assert spot_timer.sampler is sweep.sampler

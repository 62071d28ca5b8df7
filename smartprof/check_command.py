"""`smartprof check` behind its options: what is asked of the profile, this machine, its clock.

Torch is imported only to measure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from smartprof.errors import DeviceError, ProfileError
from smartprof.here import read_here
from smartprof.models.naming import require_shape
from smartprof.profile.checks import (
    Finding,
    check_complete,
    check_device,
    check_recent,
    check_stable,
    check_target,
    differences,
)
from smartprof.profile.schema import ModelKey, Profile

if TYPE_CHECKING:
    from smartprof.calibrate.spots import Overall, Recheck

FAR_OFF = 0.1  # prices further off than this decide wrongly (5 % cost 1 % of speed)
NOISY = 0.1  # half-width of timings now from which they are no ground to discard a profile
ELSEWHERE = "none"


@dataclass(frozen=True)
class Rechecked:
    """Points timed anew, and what all of it means."""

    rechecks: list[Recheck]
    findings: list[Finding]


def check_profile(profile: Profile, gpu: str, target: str | None) -> list[Finding]:
    """Findings without measuring. gpu: "none" compares with no device."""
    findings = [
        *check_complete(profile),
        *check_stable(profile),
        check_recent(profile, datetime.now(UTC)),
    ]
    key = profile.key.device
    if gpu == ELSEWHERE:
        findings.append(Finding("device", "SKIP", f"{key.name}: not compared, as asked"))
    else:
        here = read_here(gpu, key.kind, key.name)
        findings += check_device(profile, here.device, here.software, here.unread)
    return findings + check_target(profile, None if target is None else _model_key(target))


def _model_key(target: str) -> ModelKey:
    shape = require_shape(target)
    return ModelKey(name=shape.name, digest=shape.digest, parameters=shape.parameters)


def recheck_profile(
    profile: Profile, gpu: str, target: str, drafter: str, say: Callable[[str], None]
) -> Rechecked:
    """Measure points of the profile again on this device, with its target, dtype and execution.

    Raises ProfileError for a target of another shape, DeviceError for a device of another kind, or
    where passes cannot run as the profile's did.
    """
    from smartprof.calibrate.run import prepare, profile_key
    from smartprof.calibrate.spot_timer import time_spots
    from smartprof.calibrate.spots import choose_spots, overall
    from smartprof.device import BUSY_LOAD, describe_device, load_average, resolve_device
    from smartprof.drafters.table import choose_drafter, drafter_maker
    from smartprof.models.execution import open_execution
    from smartprof.models.loading import load_model

    spots = choose_spots(profile)
    kind = profile.key.device.kind
    device = resolve_device(kind if gpu == "auto" and kind == "cpu" else gpu)
    if device.kind != kind:
        raise DeviceError(
            f"expected a {kind} device to measure on, as in the profile ({profile.key.device.name})"
            f", got {device.torch_device} ({device.name}): run it where the profile was made, or "
            "calibrate here"
        )
    say(describe_device(device, gpu if gpu != "auto" else device.torch_device))
    choice = choose_drafter(drafter, target, profile.drafters)
    model = load_model(target, device, profile.key.dtype)
    _require_target(profile, model.source.shape.digest, model.source.name)
    execution = open_execution(profile.key.execution, model.transformer, say)
    if execution.name != profile.key.execution:
        raise DeviceError(
            f"expected passes as {profile.key.execution}, as in the profile, got {execution.name}: "
            "they cannot be compared"
        )
    made = drafter_maker(choice, model, execution)()
    calibration = prepare(device, model, made, "quick", None, "", execution)
    load = load_average()
    if device.kind == "cpu" and load is not None and load > BUSY_LOAD:
        say(f"warning: the machine is busy (load average {load:.1f}): its passes take longer now")
    say(f"measuring {len(spots)} points again")
    rechecks = time_spots(calibration, spots)
    here = profile_key(device, model, execution)
    unlike = [x for x in differences(profile, here) if x.mark == "FAIL"]
    return Rechecked(rechecks, [*unlike, overall_finding(overall(rechecks))])


def overall_finding(found: Overall) -> Finding:
    """What all points together say of the profile's prices."""
    off = 100 * (found.ratio - 1)
    text = f"{found.verdict}: passes take {off:+.1f} % of the profile's seconds (median)"
    if found.verdict == "SAME":
        return Finding("on device", "OK", text)
    if found.verdict == "AMBIGUOUS" or found.now_half_width > NOISY:
        return Finding("on device", "WARN", f"{text}, too noisy to tell: run it again when quiet")
    if abs(found.ratio - 1) <= FAR_OFF:
        return Finding("on device", "WARN", f"{text}: calibrate again if it stays so")
    return Finding("on device", "FAIL", f"{text}: calibrate again")


def _require_target(profile: Profile, digest: str, name: str) -> None:
    wanted = profile.key.target
    if digest != wanted.digest:
        raise ProfileError(
            f"expected the profile's target to measure again, {wanted.name} (shape "
            f"{wanted.digest}), got {name} ({digest}): name it with --target"
        )

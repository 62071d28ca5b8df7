"""What a calibration says of its own numbers: errors, noise, and warnings."""

from __future__ import annotations

from collections.abc import Mapping

from smartprof.calibrate.fit import group
from smartprof.calibrate.measure import Measured
from smartprof.calibrate.plan import Point
from smartprof.calibrate.quality import error_summary, held_out_points, strata
from smartprof.calibrate.refine import interactions, verify_points
from smartprof.calibrate.stopping import outliers, relative_half_width
from smartprof.profile.quality import Quality
from smartprof.stats import Summary

NOISY_HALF_WIDTH = 0.05
MUCH_INTERACTION = 0.05  # of the seconds that were measured


def judge(found: Measured, wall_seconds: float, warnings: list[str]) -> Quality:
    """The quality of what was measured; `warnings` come first."""
    verify = found.surface("verify")
    held_out = held_out_points(verify, found.held_out)
    return Quality(
        held_out=error_summary(held_out),
        strata=strata(held_out, verify),
        points=held_out,
        before_redraw=found.before_redraw,
        noise_floor_pct=_noise_floor(found),
        repeatability=None,
        regret=None,
        outliers=sum(int(outliers(x).sum()) for x in found.samples.values()),
        drifts=found.drifts,
        wall_seconds=wall_seconds,
        shapes=len(found.samples),
        forwards=sum(len(x) for x in found.samples.values()),
        warnings=[*warnings, *found.warnings, *_warnings(found)],
    )


def _verify_widths(found: Measured) -> list[float]:
    summaries: Mapping[Point, Summary] = found.fitted | found.held_out
    return [relative_half_width(y) for x, y in summaries.items() if x.quantity == "verify"]


def _noise_floor(found: Measured) -> float:
    """Median half-width of the verify passes' intervals, in percent: no error can be below it."""
    widths = sorted(_verify_widths(found))
    return 100 * widths[len(widths) // 2]


def _warnings(found: Measured) -> list[str]:
    warnings = [f"left out: {x}" for x in found.plan.skipped]
    warnings += _interaction_warnings(found)
    if found.before_redraw is not None:
        error = found.before_redraw.errors.mean_abs_pct
        warnings.append(
            f"the first held-out points were {error:.1f} % off, so shapes were added and fresh "
            "points drawn"
        )
    noisy = sum(x > NOISY_HALF_WIDTH for x in _verify_widths(found))
    if noisy:
        warnings.append(
            f"{noisy} of the verify passes have intervals wider than "
            f"{100 * NOISY_HALF_WIDTH:.0f} %: use --mode full or a larger --budget"
        )
    return warnings


def _interaction_warnings(found: Measured) -> list[str]:
    """Where batch and context together add what they do not add apart."""
    curves = group("verify", verify_points(found.fitted))
    return [
        f"batch {x.batch} and context {x.context} interact: verify passes in between are up to "
        f"{100 * y:.0f} % off what their ends predict"
        for x, y in interactions(curves, found.plan.boundaries).items()
        if y > MUCH_INTERACTION
    ]

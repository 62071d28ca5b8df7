"""What a calibration says of its own numbers: errors, noise, and warnings.

How far passes between the measured ones are off, where batch and context add what they do not add
apart for instance, is what the held-out passes tell.
"""

from __future__ import annotations

from collections.abc import Mapping

from smartprof.calibrate.measure import Measured
from smartprof.calibrate.plan import Point
from smartprof.calibrate.quality import error_summary, held_out_points, held_out_set, strata
from smartprof.calibrate.stopping import outliers, relative_half_width
from smartprof.calibrate.visits import Samples
from smartprof.profile.quality import Quality, Repeatability
from smartprof.stats import Summary

NOISY_HALF_WIDTH = 0.05
USUAL_OUTLIERS = 0.02  # share of samples


def judge(
    found: Measured,
    wall_seconds: float,
    warnings: list[str],
    repeatability: Repeatability | None = None,
) -> Quality:
    """The quality of what was measured, regret aside; `warnings` come first."""
    verify = found.surface("verify")
    held_out = held_out_points(verify, found.held_out)
    return Quality(
        held_out=error_summary(held_out),
        strata=strata(held_out, verify),
        points=held_out,
        first_draw=held_out_set(verify, found.first_draw) if found.fresh else None,
        noise_floor_pct=_noise_floor(found),
        repeatability=repeatability,
        regret=None,
        outliers=_outliers(found.samples),
        drifts=found.drifts,
        wall_seconds=wall_seconds,
        shapes=len(found.samples),
        forwards=sum(len(x) for x in found.samples.values()),
        warnings=[*warnings, *found.warnings, *_warnings(found)],
    )


def _verify_widths(found: Measured) -> list[float]:
    summaries: Mapping[Point, Summary] = found.fitted | found.first_draw | found.fresh
    return [relative_half_width(y) for x, y in summaries.items() if x.quantity == "verify"]


def _noise_floor(found: Measured) -> float:
    """Median half-width of the verify passes' intervals, in percent: no error can be below it."""
    widths = sorted(_verify_widths(found))
    return 100 * widths[len(widths) // 2]


def _warnings(found: Measured) -> list[str]:
    warnings = [f"left out: {x}" for x in found.plan.skipped]
    warnings += _outlier_warnings(found.samples)
    noisy = sum(x > NOISY_HALF_WIDTH for x in _verify_widths(found))
    if noisy:
        warnings.append(
            f"{noisy} of the verify passes have intervals wider than "
            f"{100 * NOISY_HALF_WIDTH:.0f} %: use --mode full or a larger --budget"
        )
    return warnings


def _outliers(samples: Samples) -> int:
    return sum(int(outliers(x).sum()) for x in samples.values())


def _outlier_warnings(samples: Samples) -> list[str]:
    """How many samples took far longer than the rest, if that is more than usual."""
    marked = _outliers(samples)
    total = sum(len(x) for x in samples.values())
    if marked <= USUAL_OUTLIERS * total:
        return []
    return [f"{marked} of {total} samples are outliers; they are kept, medians bear them"]

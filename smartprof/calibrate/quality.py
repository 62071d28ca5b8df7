"""How good a calibration is: errors on held-out points, regret of decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from smartprof.calibrate.plan import Point
from smartprof.planning.regret import estimated_regret
from smartprof.profile.quality import NO_ERRORS, HeldOutSet
from smartprof.profile.schema import ErrorSummary, HeldOutPoint, Profile, Surface
from smartprof.profile.surface import SurfaceEvaluator
from smartprof.stats import Summary

LARGE_TOKENS = 64  # verify passes from here on are of the stratum "large"
SMALL_TOKENS = 8
NEAR = 1 / 8  # of a step's size


def held_out_points(verify: Surface, measured: Mapping[Point, Summary]) -> list[HeldOutPoint]:
    """Measured and predicted seconds of every held-out verify pass."""
    evaluator = SurfaceEvaluator(verify)
    return [
        HeldOutPoint(
            quantity="verify",
            batch=point.batch,
            size=point.size,
            context=point.context,
            measured_seconds=summary.median,
            predicted_seconds=float(
                evaluator.seconds(point.batch, np.array([point.size]), point.context)[0]
            ),
            samples=summary.samples,
        )
        for point, summary in measured.items()
    ]


def error_summary(points: Sequence[HeldOutPoint]) -> ErrorSummary:
    """Errors of prediction in percent of the measured seconds; all None without points."""
    if not points:
        return NO_ERRORS
    signed = np.array([100 * (x.predicted_seconds / x.measured_seconds - 1) for x in points])
    size = np.abs(signed)
    return ErrorSummary(
        count=len(points),
        mean_abs_pct=float(size.mean()),
        median_abs_pct=float(np.median(size)),
        p95_abs_pct=float(np.quantile(size, 0.95)),
        max_abs_pct=float(size.max()),
        bias_pct=float(signed.mean()),
    )


def held_out_set(verify: Surface, measured: Mapping[Point, Summary]) -> HeldOutSet:
    """The same with the summary of their errors."""
    points = held_out_points(verify, measured)
    return HeldOutSet(errors=error_summary(points), points=points)


def strata(points: Sequence[HeldOutPoint], verify: Surface) -> dict[str, ErrorSummary]:
    """Errors apart by kind of pass: small, medium and large, near detected steps, long contexts."""
    longest = verify.domain.context[1] if verify.domain.context else 0
    steps = {y for x in verify.curves for y in x.steps}
    kinds = {
        f"up to {SMALL_TOKENS} tokens": [x for x in points if x.size <= SMALL_TOKENS],
        f"{SMALL_TOKENS + 1} to {LARGE_TOKENS - 1} tokens": [
            x for x in points if SMALL_TOKENS < x.size < LARGE_TOKENS
        ],
        f"{LARGE_TOKENS} tokens and more": [x for x in points if x.size >= LARGE_TOKENS],
        "near steps": [x for x in points if any(abs(x.size - y) <= NEAR * y for y in steps)],
        f"context from {longest // 2}": [x for x in points if x.context >= longest // 2],
    }
    return {name: error_summary(members) for name, members in kinds.items()}


def with_regret(profile: Profile) -> Profile:
    """The same profile, judged by the speed that choosing with it is estimated to lose."""
    quality = profile.quality.model_copy(update={"regret": estimated_regret(profile)})
    return profile.model_copy(update={"quality": quality})

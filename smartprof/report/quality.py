"""Sentences on how far a profile can be trusted."""

from __future__ import annotations

from smartprof.format import percent_text, seconds_text
from smartprof.profile.schema import Profile

NOTHING = "neither noise floor, regret nor repeatability is known: nothing was measured"
UNKNOWN_REPEATABILITY = "repeatability: not measured"
HOW_TO_REPEAT = " (`smartprof calibrate --repeat 2` does)"


def quality_sentences(profile: Profile) -> list[str]:
    """Noise floor, regret, repeatability, what was disturbed, and what it all took."""
    quality = profile.quality
    if profile.provenance.kind == "analytic":
        return [NOTHING]
    return [
        *_first_set(profile),
        f"noise floor: {percent_text(quality.noise_floor_pct)}, the median half-width of the "
        "verify passes' intervals",
        _regret(profile),
        _repeatability(profile),
        *_disturbances(profile),
        f"measured {quality.shapes} shapes with {quality.forwards} timed repetitions in "
        f"{seconds_text(quality.wall_seconds)}",
    ]


def _first_set(profile: Profile) -> list[str]:
    first = profile.quality.first_draw
    if first is None:
        return []
    mean, p95 = (percent_text(x) for x in (first.errors.mean_abs_pct, first.errors.p95_abs_pct))
    return [
        f"the held-out passes above are a second draw: a first one of {first.errors.count} failed, "
        f"so shapes were added; the same fit is off on it by {mean} (mean), {p95} (p95)"
    ]


def _regret(profile: Profile) -> str:
    regret = profile.quality.regret
    if regret is None:
        return "estimated decision regret: none was estimated"
    batches, contexts = (", ".join(map(str, x)) for x in (regret.batches, regret.contexts))
    return (
        f"estimated decision regret: {percent_text(regret.mean_pct, 2)} of the speed (mean), "
        f"{percent_text(regret.p95_pct, 2)} (p95), {percent_text(regret.max_pct, 2)} (max) lost by "
        f"choosing trees with this profile, by noise and held-out errors ({regret.refits} refits, "
        f"{len(regret.acceptance)} assumed acceptances, batches {batches}, contexts {contexts})"
    )


def _repeatability(profile: Profile) -> str:
    found = profile.quality.repeatability
    if found is None:
        here = profile.provenance.kind == "measured"
        return UNKNOWN_REPEATABILITY + (HOW_TO_REPEAT if here else "")
    return (
        f"repeatability: two sweeps over {found.shapes} shapes differ by "
        f"{percent_text(found.median_pct)} (median), {percent_text(found.p95_pct)} (p95), "
        f"{percent_text(found.max_pct)} (max)"
    )


def _disturbances(profile: Profile) -> list[str]:
    quality = profile.quality
    counts = {
        "samples far outside were kept and marked": quality.outliers,
        "times the device's pace strayed, which was made up for": quality.drifts,
    }
    return [f"{count} {what}" for what, count in counts.items() if count is not None]

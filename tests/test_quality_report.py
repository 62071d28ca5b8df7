from __future__ import annotations

from typing import Any

from smartprof.profile.quality import (
    NO_ERRORS,
    DecisionRegret,
    HeldOutSet,
    Repeatability,
)
from smartprof.profile.schema import Profile
from smartprof.report.quality import (
    HOW_TO_REPEAT,
    NOTHING,
    UNKNOWN_REPEATABILITY,
    quality_sentences,
)
from smartprof.report.tables import verify_table
from tests.profiles import make_profile

REGRET = DecisionRegret(
    mean_pct=0.061,
    p95_pct=0.318,
    max_pct=5.17,
    refits=100,
    decisions=1800,
    acceptance=["synthetic:0.6+0.1", "synthetic:0.8"],
    batches=[1, 4],
    contexts=[64, 1024],
)
FIRST = NO_ERRORS.model_copy(update={"count": 10, "mean_abs_pct": 7.25, "p95_abs_pct": 12.0})


def sentences(**known: Any) -> list[str]:
    profile = make_profile()
    quality = profile.quality.model_copy(update=known)
    return quality_sentences(profile.model_copy(update={"quality": quality}))


def test_what_was_not_measured_is_said_to_be_so_and_never_zero() -> None:
    found = sentences()
    assert found[0].startswith("noise floor: -,")
    assert found[1] == "estimated decision regret: none was estimated"
    assert found[2] == UNKNOWN_REPEATABILITY + HOW_TO_REPEAT
    assert found[3] == "measured 0 shapes with 0 timed repetitions in -"
    assert len(found) == 4


def test_profiles_that_nobody_can_repeat_here_get_no_advice_to_do_so() -> None:
    profile = make_profile()

    def of(kind: str) -> list[str]:
        provenance = profile.provenance.model_copy(update={"kind": kind})
        return quality_sentences(profile.model_copy(update={"provenance": provenance}))

    assert of("imported")[2] == UNKNOWN_REPEATABILITY
    assert of("analytic") == [NOTHING]


def test_every_figure_of_quality_is_said_with_what_it_was_taken_over() -> None:
    found = sentences(
        first_draw=HeldOutSet.model_construct(errors=FIRST, points=[]),
        noise_floor_pct=1.26,
        regret=REGRET,
        repeatability=Repeatability(shapes=150, median_pct=1.25, p95_pct=4.0, max_pct=9.99),
        outliers=0,
        drifts=2,
        wall_seconds=78.5,
        shapes=150,
        forwards=6793,
    )
    assert "a first one of 10 failed" in found[0]
    assert found[0].endswith("off on it by 7.2 % (mean), 12.0 % (p95)")
    assert "noise floor: 1.3 %" in found[1]
    assert "0.06 % of the speed (mean), 0.32 % (p95), 5.17 % (max)" in found[2]
    assert "100 refits, 2 assumed acceptances, batches 1, 4, contexts 64, 1024" in found[2]
    assert "150 shapes differ by 1.2 % (median), 4.0 % (p95), 10.0 % (max)" in found[3]
    assert found[4].startswith("0 samples far outside")
    assert found[5].startswith("2 times the device's pace strayed")
    assert found[6] == "measured 150 shapes with 6793 timed repetitions in 78.5 s"


def test_free_tokens_stand_with_their_interval_and_what_lies_beyond_the_curve() -> None:
    profile = make_profile(batches=(1,), contexts=(64,))
    changes = {
        "free_tokens_10": 6,
        "free_tokens_10_interval": (4, 7),
        "free_tokens_50": None,
        "free_tokens_50_interval": (100, None),
    }
    curves = [x.model_copy(update=changes) for x in profile.verify.curves]
    verify = profile.verify.model_copy(update={"curves": curves})
    assert last_cells(profile.model_copy(update={"verify": verify})) == [
        "6 (4-7)",
        "- (100-...)",
        "-",
    ]
    assert last_cells(profile) == ["-", "-", "-"]


def last_cells(profile: Profile) -> list[Any]:
    """Of the first line of the table of verify passes."""
    return [next(iter(x.cells)) for x in verify_table(profile).columns][-3:]

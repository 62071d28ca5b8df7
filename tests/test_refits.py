from __future__ import annotations

import numpy as np
import pytest

from smartprof.planning.regret import estimated_regret, interpolation_error
from smartprof.profile.refits import drawn_seconds, refitted
from smartprof.profile.schema import Curve, HeldOutPoint, Profile
from smartprof.profile.surface import SurfaceEvaluator
from tests.profiles import assert_sound, bent, make_profile, make_surface

NOISE, STRAY = 0.01, 0.05


def test_draws_scatter_as_the_half_widths_say() -> None:
    curve = make_surface("verify", lambda b, s, c: 0.01 * s, half_width=0.0392).curves[0]
    draws = drawn_seconds(curve, 20_000, np.random.default_rng(0))
    logs = np.log(draws / [x.seconds for x in curve.knots])
    np.testing.assert_allclose(logs.std(axis=0), 0.02, rtol=0.03)
    np.testing.assert_allclose(logs.mean(axis=0), 0.0, atol=1e-3)
    correlations = np.corrcoef(logs.T) - np.eye(len(curve.knots))
    assert np.abs(correlations).max() < 0.05


def test_the_widest_interval_still_draws_seconds_that_a_profile_may_hold() -> None:
    curve = make_surface("verify", lambda b, s, c: 1e-12, half_width=1e9).curves[0]
    draws = drawn_seconds(curve, 100, np.random.default_rng(0))
    assert np.all(np.isfinite(draws)) and draws.min() >= 1e-12


def loose_profile() -> Profile:
    """One curve of which the knots at 8 and 64 were not measured; noise of 1 %."""
    profile = make_profile(batches=(1,), contexts=(64,), sizes=(1, 8, 16, 17, 64, 100))
    (curve,) = profile.verify.curves
    knots = [x.model_copy(update={"ci_half_width": 1.96 * NOISE * x.seconds}) for x in curve.knots]
    anchors = [x for x in profile.verify.anchors if x.size not in (8, 64)]
    changes = {"anchors": anchors, "curves": [curve.model_copy(update={"knots": knots})]}
    return profile.model_copy(update={"verify": profile.verify.model_copy(update=changes)})


def deviations(stray: float) -> dict[int, float]:
    """Standard deviation of the logarithm of drawn seconds, by size."""
    profile, random = loose_profile(), np.random.default_rng(0)
    sizes = (1, 3, 8, 11, 16, 17, 33, 64, 80, 100)
    logs = [
        np.log(SurfaceEvaluator(refitted(profile, random, stray).verify).seconds(1, sizes, 64))
        for _ in range(2000)
    ]
    return dict(zip(sizes, np.std(logs, axis=0).tolist(), strict=True))


def test_verify_passes_stray_where_nothing_was_measured_and_nowhere_else() -> None:
    found = deviations(STRAY)
    both = float(np.hypot(NOISE, STRAY))
    for size in (1, 16, 17, 100):  # anchors
        assert found[size] == pytest.approx(NOISE, rel=0.1)
    for size in (3, 8, 11, 33, 64, 80):  # knots, and the middles between knots
        assert found[size] == pytest.approx(both, rel=0.1)


def test_without_stray_only_noise_is_left() -> None:
    assert max(deviations(0.0).values()) == pytest.approx(NOISE, rel=0.1)


def test_a_refit_is_a_sound_profile_but_for_its_anchors() -> None:
    drawn = refitted(make_profile(half_width=0.1), np.random.default_rng(0), STRAY)
    verify = drawn.verify.model_copy(update={"anchors": []})
    unanchored = {
        x: getattr(drawn, x).model_copy(update={"anchors": []})
        for x in ("plain_decode", "round_overhead")
    }
    assert_sound(drawn.model_copy(update={"verify": verify, "drafters": {}, **unanchored}))
    for surface in (verify, *unanchored.values()):
        for curve in surface.curves:
            assert Curve.model_validate(curve.model_dump()) == curve


def judged_profile(percents: list[float], noise_floor_pct: float = 0.0) -> Profile:
    """A profile whose held-out points were predicted so many percent too high."""
    profile = make_profile(half_width=0.01)
    points = [
        HeldOutPoint(
            quantity="verify",
            batch=1,
            size=5,
            context=100,
            measured_seconds=0.1,
            predicted_seconds=0.1 * (1 + x / 100),
            samples=5,
        )
        for x in percents
    ]
    changes = {"points": points, "noise_floor_pct": noise_floor_pct}
    return profile.model_copy(update={"quality": profile.quality.model_copy(update=changes)})


def test_the_error_of_interpolation_is_what_exceeds_the_noise() -> None:
    assert interpolation_error(make_profile()) == 0.0
    expected = np.sqrt(np.pi / 2) * np.mean(np.abs(np.log([1.02, 0.94, 1.04])))
    assert interpolation_error(judged_profile([2.0, -6.0, 4.0])) == pytest.approx(expected)
    noisy = interpolation_error(judged_profile([2.0, -6.0, 4.0], 1.96))
    assert noisy == pytest.approx(np.sqrt(expected**2 - 2 * 0.01**2))
    assert interpolation_error(judged_profile([0.5, -0.5], 1.96)) == 0.0


def test_the_error_of_normal_held_out_points_is_their_standard_deviation() -> None:
    percents = 100 * (np.exp(0.03 * np.random.default_rng(0).standard_normal(4000)) - 1)
    assert interpolation_error(judged_profile(percents.tolist())) == pytest.approx(0.03, rel=0.05)


def test_a_profile_that_predicts_badly_is_estimated_to_lose_more() -> None:
    good, bad = (estimated_regret(judged_profile(x)) for x in ([0.1, -0.1], [8.0, -8.0]))
    assert good is not None and bad is not None
    assert bad.mean_pct > 3 * good.mean_pct > 0


def test_a_middle_knot_lies_on_the_curve_before_it_is_drawn() -> None:
    profile = make_profile()
    drawn = refitted(profile, np.random.default_rng(0), 1e-9)
    evaluator = SurfaceEvaluator(drawn.verify)
    for size in (3, 12, 23, 45):
        there = SurfaceEvaluator(profile.verify).seconds(1, [size], 64)[0]
        assert evaluator.seconds(1, [size], 64)[0] == pytest.approx(there, rel=1e-6)
    assert evaluator.seconds(1, [128], 64)[0] == pytest.approx(bent(1, 128, 64))

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from smartprof.calibrate.fit import fit_roofline, fit_surface, free_tokens, roofline_seconds
from smartprof.calibrate.plan import BASE_SIZES, MODES, make_plan
from smartprof.errors import ProfileError
from smartprof.models.shapes import named_shape
from smartprof.profile.schema import Curve, Roofline, Surface
from smartprof.profile.surface import SurfaceEvaluator
from smartprof.stats import Summary

Truth = Callable[[int, int, int], float]
SIZES = np.array((1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256), float)
SPARSE = (1, 2, 4, 8, 16)


def staircase(size: int) -> float:
    """A shape that no straight line between a few sizes could guess."""
    return 0.02 + 0.004 * (size > 4) + 0.03 * (size > 24) + 0.0001 * size


def additive(batch: int, size: int, context: int) -> float:
    """What does not depend on batch and context, plus attention, which grows with the tokens."""
    return staircase(size) + 1e-6 * batch * context + 2e-8 * size * context


def measured(
    truth: Truth, batches: tuple[int, ...] = (1, 4, 16), contexts: tuple[int, ...] = (64, 1024)
) -> dict[tuple[int, int, int], Summary]:
    """Many sizes at the smallest batch and shortest context, five everywhere else."""
    points = {}
    for batch in batches:
        for context in contexts:
            base = (batch, context) == (batches[0], contexts[0])
            sizes = BASE_SIZES if base else [x for x in (*(batch * y for y in SPARSE), 256)]
            for size in sorted({x for x in sizes if batch <= x <= 256}):
                seconds = truth(batch, size, context)
                points[batch, size, context] = Summary(seconds, 0.002 * seconds, 1e-3 * seconds, 9)
    return points


def curve_at(surface: Surface, batch: int, context: int) -> Curve:
    return next(x for x in surface.curves if (x.batch, x.context) == (batch, context))


def one_curve(
    values: Mapping[int, float], half: float = 0.0
) -> dict[tuple[int, int, int], Summary]:
    return {(1, x, 64): Summary(y, 0.0, half, 5) for x, y in values.items()}


def test_every_measured_point_is_an_exact_anchor_and_an_exact_knot() -> None:
    points = measured(additive)
    surface = fit_surface("verify", points)
    anchors = {(x.batch, x.size, x.context): x for x in surface.anchors}
    assert set(anchors) == set(points)
    for place, summary in points.items():
        anchor = anchors[place]
        assert anchor.seconds == summary.median
        assert (anchor.spread, anchor.ci_half_width) == (summary.spread, summary.ci_half_width)
        assert anchor.samples == 9
        knots = {x.size: x.seconds for x in curve_at(surface, place[0], place[2]).knots}
        assert knots[place[1]] == summary.median


def test_an_additive_truth_is_recovered_between_the_anchors_of_a_sparse_curve() -> None:
    surface = fit_surface("verify", measured(additive))
    for curve in surface.curves:
        assert curve.batch is not None
        assert curve.context is not None
        own = [x for x in BASE_SIZES if x >= curve.batch]
        assert {x.size for x in curve.knots} >= set(own)
        for knot in curve.knots:
            if knot.size in BASE_SIZES:
                truth = additive(curve.batch, knot.size, curve.context)
                assert knot.seconds == pytest.approx(truth, rel=1e-12)


def test_straight_lines_between_sparse_anchors_would_miss_that_truth() -> None:
    """Negative control: the borrowed shape is what recovers it."""
    points = measured(additive)
    sizes = sorted(x for batch, x, context in points if (batch, context) == (16, 1024))
    known = [points[16, x, 1024].median for x in sizes]
    guess = np.interp(24, sizes, known)
    assert abs(guess / additive(16, 24, 1024) - 1) > 0.1


def test_noise_of_one_percent_stays_noise_of_about_one_percent() -> None:
    draw = np.random.default_rng(5)
    noisy = {
        x: Summary(y.median * (1 + draw.normal(0, 0.01)), 0.0, 0.01 * y.median, 5)
        for x, y in measured(additive).items()
    }
    surface = fit_surface("verify", noisy)
    errors = [
        knot.seconds / additive(curve.batch, knot.size, curve.context) - 1  # type: ignore[arg-type]
        for curve in surface.curves
        for knot in curve.knots
        if knot.size in BASE_SIZES
    ]
    assert np.median(np.abs(errors)) < 0.02
    assert np.max(np.abs(errors)) < 0.06


def test_a_difference_that_outweighs_the_base_never_makes_seconds_negative() -> None:
    def much_cheaper(batch: int, size: int, context: int) -> float:
        return 0.5 if batch == 1 and size in (12, 24) else 1e-4 * size

    surface = fit_surface("verify", measured(much_cheaper))
    assert min(knot.seconds for curve in surface.curves for knot in curve.knots) > 0


@pytest.mark.parametrize("knee", [3.0, 6.0, 22.0, 48.0, 90.0, 160.0])
@pytest.mark.parametrize("slope_below", [0.0, 2e-5])
def test_the_knee_of_noiseless_data_is_recovered(knee: float, slope_below: float) -> None:
    truth = Roofline(floor_seconds=0.02, slope_below=slope_below, slope_above=1e-3, knee=knee)
    found = fit_roofline(SIZES, roofline_seconds(truth, SIZES))
    assert found is not None
    assert found.knee == pytest.approx(knee, rel=0.05)
    assert found.slope_above == pytest.approx(1e-3, rel=0.02)
    np.testing.assert_allclose(
        roofline_seconds(found, SIZES), roofline_seconds(truth, SIZES), rtol=0.02
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_knee_is_found_within_a_quarter_under_noise_of_one_percent(seed: int) -> None:
    truth = Roofline(floor_seconds=0.02, slope_below=1e-5, slope_above=1e-3, knee=22.0)
    noise = 1 + np.random.default_rng(seed).normal(0, 0.01, SIZES.size)
    found = fit_roofline(SIZES, roofline_seconds(truth, SIZES) * noise)
    assert found is not None
    assert found.knee == pytest.approx(22.0, rel=0.25)
    np.testing.assert_allclose(
        roofline_seconds(found, SIZES), roofline_seconds(truth, SIZES), rtol=0.03
    )


def test_the_roofline_never_falls_and_never_bends_down() -> None:
    draw = np.random.default_rng(0)
    for _ in range(30):
        found = fit_roofline(SIZES, draw.uniform(0.01, 0.1, SIZES.size))
        assert found is not None
        assert 0 <= found.slope_below <= found.slope_above
        assert found.floor_seconds >= 0
        assert SIZES[0] <= found.knee <= SIZES[-1]


def test_three_points_leave_no_roofline_to_fit() -> None:
    assert fit_roofline(np.array([1.0, 4.0, 16.0]), np.array([1.0, 1.1, 3.0])) is None


def test_the_roofline_is_floor_plus_two_slopes() -> None:
    roofline = Roofline(floor_seconds=1.0, slope_below=0.5, slope_above=2.0, knee=4.0)
    np.testing.assert_allclose(
        roofline_seconds(roofline, np.array([1, 2, 4, 6])), [1.5, 2.0, 3.0, 7.0]
    )


@pytest.mark.parametrize(
    ("seconds", "surcharge", "expected"),
    [
        ([1.0, 1.0, 1.0, 2.0], 0.10, 4),  # a tenth of the way from 4 to 8, rounded down
        ([1.0, 1.0, 1.0, 2.0], 0.50, 6),
        ([1.0, 3.0, 3.0, 3.0], 0.10, 1),
        ([1.0, 1.0, 1.05, 1.1], 0.10, None),  # exactly at the limit is within it
        ([2.0, 1.0, 1.0, 1.0], 0.10, None),
        ([1.0, 2.0, 1.0, 1.0], 0.10, 1),  # a later dip does not make the tokens before it free
    ],
)
def test_free_tokens_are_those_worked_out_by_hand(
    seconds: list[float], surcharge: float, expected: int | None
) -> None:
    assert free_tokens(np.array([1.0, 2.0, 4.0, 8.0]), np.array(seconds), surcharge) == expected


def test_a_jump_beyond_noise_between_adjacent_sizes_is_a_step() -> None:
    values = {1: 1.0, 2: 1.01, 3: 1.5, 4: 1.52, 8: 3.0}
    assert fit_surface("verify", one_curve(values)).curves[0].steps == [3]


def test_a_jump_within_the_two_intervals_is_no_step() -> None:
    values = {1: 1.0, 2: 1.01, 3: 1.5, 4: 1.52, 8: 3.0}
    assert fit_surface("verify", one_curve(values, half=0.3)).curves[0].steps == []


def test_a_small_jump_a_fall_and_a_gap_in_the_sizes_are_no_steps() -> None:
    values = {1: 1.0, 2: 1.04, 3: 0.5, 5: 2.0, 8: 4.0}
    assert fit_surface("verify", one_curve(values)).curves[0].steps == []


def test_a_missing_curve_is_an_error_in_one_line_and_not_a_guess() -> None:
    points = {x: y for x, y in measured(additive).items() if (x[0], x[2]) != (4, 1024)}
    with pytest.raises(ProfileError) as error:
        fit_surface("verify", points)
    text = str(error.value)
    assert "\n" not in text
    assert "batch 4, context 1024" in text


@pytest.mark.parametrize(
    ("quantity", "axis", "has_batch", "has_context"),
    [
        ("verify", "tokens", True, True),
        ("plain_decode", "batch", False, True),
        ("round_overhead", "tokens", True, False),
        ("draft_step", "rows", True, True),
        ("draft_catchup", "accepted", True, True),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_every_quantity_of_a_plan_becomes_a_surface_that_the_schema_accepts(
    mode: str, quantity: str, axis: str, has_batch: bool, has_context: bool
) -> None:
    plan = make_plan(mode, named_shape("SmolLM2-135M"), 1 << 50, 4, 8192, ("ngram",))
    points = {
        (x.batch, x.size, x.context): Summary(additive(x.batch, x.size, x.context), 0.0, 1e-5, 5)
        for x in plan.fitted
        if x.quantity == quantity
    }
    surface = fit_surface(quantity, points)
    assert Surface.model_validate(surface.model_dump()) == surface
    assert surface.size_axis == axis
    assert (surface.domain.batch is not None) == has_batch
    assert (surface.domain.context is not None) == has_context
    assert len(surface.anchors) == len(points)


def test_held_out_shapes_of_a_smooth_truth_are_predicted_within_a_few_percent() -> None:
    def smooth(batch: int, size: int, context: int) -> float:
        floor, rate = 0.025, 7e-4
        return (floor**4 + (rate * size) ** 4) ** 0.25 + 1e-7 * batch * context

    plan = make_plan("quick", named_shape("SmolLM2-135M"), 1 << 50, 4, 8192, ("ngram",))
    points = {
        (x.batch, x.size, x.context): Summary(smooth(x.batch, x.size, x.context), 0.0, 0.0, 5)
        for x in plan.fitted
        if x.quantity == "verify"
    }
    evaluator = SurfaceEvaluator(fit_surface("verify", points))
    for point in plan.held_out:
        found = evaluator.seconds(point.batch, [point.size], point.context)[0]
        assert found == pytest.approx(smooth(point.batch, point.size, point.context), rel=0.05)

from __future__ import annotations

import pytest

from smartprof.calibrate.plan import Point
from smartprof.calibrate.quality import error_summary, held_out_points, strata
from smartprof.profile.schema import HeldOutPoint, Surface
from smartprof.stats import Summary
from tests.profiles import bent, make_profile, make_surface


def off_by(percent: float, size: int = 4, context: int = 64) -> HeldOutPoint:
    """A pass of 100 ms, predicted so many percent too high."""
    return HeldOutPoint(
        quantity="verify",
        batch=1,
        size=size,
        context=context,
        measured_seconds=0.1,
        predicted_seconds=0.1 * (1 + percent / 100),
        samples=5,
    )


def test_errors_are_those_worked_out_by_hand() -> None:
    found = error_summary([off_by(x) for x in (1.0, -2.0, 3.0, -4.0, 12.0)])
    assert found.count == 5
    assert found.mean_abs_pct == pytest.approx(4.4)
    assert found.median_abs_pct == pytest.approx(3.0)
    assert found.p95_abs_pct == pytest.approx(4.0 + 0.8 * 8.0)  # 0.95 * 4 = 3.8 between 4 and 12
    assert found.max_abs_pct == pytest.approx(12.0)
    assert found.bias_pct == pytest.approx(2.0)


def test_errors_are_in_percent_of_the_measured_seconds() -> None:
    point = off_by(0.0).model_copy(update={"predicted_seconds": 0.05})
    assert error_summary([point]).mean_abs_pct == pytest.approx(50.0)
    assert error_summary([point]).bias_pct == pytest.approx(-50.0)


def test_without_points_every_error_is_null_and_none_is_zero() -> None:
    found = error_summary([])
    assert found.count == 0
    assert {y for x, y in found if x != "count"} == {None}


def surface(longest: int = 1024, steps: tuple[int, ...] = ()) -> Surface:
    """Verify passes to 64 tokens and a context, with steps detected on one curve."""
    made = make_surface("verify", bent, (1,), (64, longest), (1, 16, 17, 63, 64))
    first, *others = made.curves
    return made.model_copy(
        update={"curves": [first.model_copy(update={"steps": list(steps)}), *others]}
    )


def test_strata_split_by_size_and_pick_long_contexts() -> None:
    points = [
        off_by(1.0, size=1),
        off_by(2.0, size=8),
        off_by(3.0, size=9),
        off_by(4.0, size=63),
        off_by(5.0, size=64, context=511),
        off_by(6.0, size=256, context=512),
    ]
    found = strata(points, surface())
    means = [(x.count, x.mean_abs_pct) for x in found.values()]
    assert means == [
        (2, pytest.approx(1.5)),
        (2, pytest.approx(3.5)),
        (2, pytest.approx(5.5)),
        (0, None),
        (1, pytest.approx(6.0)),
    ]
    assert list(found)[-1] == "context from 512"
    by_size = list(found.values())[:3]
    assert sum(x.count for x in by_size) == len(points)


def test_passes_within_an_eighth_of_a_detected_step_are_near_it() -> None:
    points = [off_by(float(x), size=x) for x in (14, 15, 17, 19, 20, 55, 56, 64, 72, 73)]
    found = strata(points, surface(steps=(17, 64)))["near steps"]
    near = [15, 17, 19, 56, 64, 72]
    assert (found.count, found.mean_abs_pct) == (len(near), pytest.approx(sum(near) / len(near)))
    assert found.bias_pct == found.mean_abs_pct


def test_an_empty_stratum_has_a_count_of_zero_and_nulls() -> None:
    found = strata([off_by(1.0, size=2)], surface())
    assert [x.count for x in found.values()] == [1, 0, 0, 0, 0]
    assert [x.bias_pct for x in found.values()][1:] == [None] * 4


def test_held_out_points_carry_the_surface_s_own_prediction() -> None:
    verify = make_profile(lambda batch, size, context: 0.01 * size + 1e-5 * context).verify
    measured = {
        Point("verify", 1, 24, 160): Summary(0.2, 0.001, 0.002, 7),
        Point("verify", 1, 16, 64): Summary(0.5, 0.001, 0.002, 3),
    }
    between, anchor = held_out_points(verify, measured)
    assert between.predicted_seconds == pytest.approx(0.24 + 1.6e-3)
    assert (between.measured_seconds, between.samples) == (0.2, 7)
    assert anchor.predicted_seconds == 0.16 + 6.4e-4
    assert (anchor.batch, anchor.size, anchor.context) == (1, 16, 64)

"""Steps are found where they are, and not where a curve only rises."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from smartprof.calibrate.fit import own_shape
from smartprof.calibrate.steps import find_jumps
from smartprof.stats import Summary

SIZES = np.array((1, 2, 4, 8, 16, 17, 32, 33, 48, 64, 65, 96, 128, 129, 256), float)
BOUNDARIES = tuple(range(16, 256, 16))


def smooth(knee: float, sharpness: float, sizes: NDArray[np.float64] = SIZES) -> NDArray:
    """A roofline with a rounded knee."""
    return 0.02 * (1 + (sizes / knee) ** sharpness) ** (1 / sharpness)


def steps(seconds: NDArray, half: float = 0.002, sizes: NDArray[np.float64] = SIZES) -> list[int]:
    return [x.size for x in find_jumps(sizes, seconds, half * seconds, BOUNDARIES)]


@pytest.mark.parametrize("knee", np.geomspace(2, 200, 20).tolist())
@pytest.mark.parametrize("sharpness", [2.0, 4.0, 40.0])
def test_a_curve_that_only_rises_has_no_steps(knee: float, sharpness: float) -> None:
    assert steps(smooth(knee, sharpness)) == []


@pytest.mark.parametrize("knee", [30.0, 100.0, 1000.0])
def test_steps_on_a_roofline_are_found_and_no_others(knee: float) -> None:
    factor = np.where(SIZES >= 17, 1.15, 1.0) * np.where(SIZES >= 65, 1.2, 1.0)
    assert steps(smooth(knee, 40.0) * factor) == [17, 65]


def test_under_noise_of_one_percent_false_steps_are_rare() -> None:
    draw = np.random.default_rng(0)
    count = 0
    for knee in np.geomspace(2, 200, 50):
        noisy = smooth(knee, 4.0) * np.exp(0.01 * draw.normal(size=len(SIZES)))
        count += len(steps(noisy, half=0.015))
    assert count <= 10  # of 50 curves of 14 intervals


def test_what_the_intervals_allow_is_no_step() -> None:
    seconds = smooth(1000.0, 4.0) * np.where(SIZES >= 17, 1.1, 1.0)
    assert steps(seconds, half=0.002) == [17]
    assert steps(seconds, half=0.08) == []


def test_a_fall_is_no_step_and_hides_none() -> None:
    seconds = smooth(1000.0, 4.0) * np.where(SIZES >= 33, 0.8, 1.0) * np.where(SIZES >= 65, 1.3, 1)
    assert steps(seconds) == [65]


def test_a_step_between_two_sizes_lies_after_the_boundary_between_them() -> None:
    sizes = np.array([8, 10, 12, 14, 20, 22, 24, 26], float)
    seconds = 0.02 * np.where(sizes >= 17, 1.5, 1.0)
    assert steps(seconds, sizes=sizes) == [17]
    summaries = {int(x): Summary(y, 0.0, 1e-4, 9) for x, y in zip(sizes, seconds, strict=True)}
    shape = own_shape(summaries, BOUNDARIES)
    assert shape.at(np.array([15.0, 16.0, 17.0, 18.0])) == pytest.approx([0.02, 0.02, 0.03, 0.03])
    unsure = dict(zip(shape.sizes.tolist(), shape.half_widths.tolist(), strict=True))
    assert unsure[16.0] == unsure[17.0] == pytest.approx(0.005)
    straight = np.interp(16.0, sizes, seconds)
    assert abs(straight / 0.02 - 1) > 0.1  # negative control: a line would blur it


def test_measured_points_stay_where_they_are_whatever_is_found() -> None:
    draw = np.random.default_rng(1)
    for _ in range(50):
        seconds = 0.02 * np.exp(0.3 * draw.normal(size=len(SIZES)))
        summaries = {int(x): Summary(y, 0.0, 1e-4, 9) for x, y in zip(SIZES, seconds, strict=True)}
        shape = own_shape(summaries, BOUNDARIES)
        np.testing.assert_array_equal(shape.at(SIZES), seconds)
        assert (np.diff(shape.sizes) > 0).all()
        assert (shape.seconds > 0).all()


def test_sizes_that_cost_the_same_within_a_tile_make_no_step_of_the_gap_to_the_next() -> None:
    """Milliseconds of a real curve: flat from 16 to 17 and from 32 to 33, and straight over all."""
    sizes = np.array([8, 16, 17, 32, 33, 48, 64, 128], float)
    seconds = 1e-3 * np.array([19.2, 23.7, 23.6, 33.7, 33.4, 45.4, 57.6, 102.9])
    assert steps(seconds, 0.008, sizes) == []

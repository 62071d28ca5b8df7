"""The synthetic device is what it says it is: other tests lean on it."""

from __future__ import annotations

import numpy as np
import pytest

from smartprof.calibrate.plan import Point
from tests.synthetic_device import (
    FACTORS,
    QUIET,
    STEPS,
    Disturbance,
    SyntheticDevice,
    staircase,
    true_free_tokens,
    truth,
    verify_seconds,
)

PASS = Point("verify", 4, 64, 1024)


def drawn(device: SyntheticDevice, count: int, point: Point = PASS) -> np.ndarray:
    sample = device.sampler(point)
    return np.array([sample() for _ in range(count)]) / truth(point)


def test_a_quiet_device_tells_the_truth_and_its_clock_runs_by_it() -> None:
    device = SyntheticDevice(0, QUIET)
    assert drawn(device, 3).tolist() == [1.0] * 3
    assert device.now() == pytest.approx(3 * truth(PASS))
    assert device.runs == 3


def test_steps_lie_where_stated_and_nowhere_else() -> None:
    jumps = [x for x in range(2, 257) if staircase(x) > 1.05 * staircase(x - 1)]
    falls = [x for x in range(2, 257) if staircase(x) < staircase(x - 1)]
    assert tuple(jumps) == STEPS
    assert sorted(jumps + falls) == sorted(FACTORS)
    assert len(falls) == 1


def test_free_tokens_end_where_the_time_first_passes_the_limit() -> None:
    assert true_free_tokens(0.10) == 16
    limit = 1.5 * verify_seconds(1, 1, 64)
    half = true_free_tokens(0.50)
    assert verify_seconds(1, half, 64) <= limit < verify_seconds(1, half + 1, 64)


def test_noise_spikes_spell_and_swing_are_as_large_as_stated() -> None:
    noise = drawn(SyntheticDevice(1, Disturbance(spell=(0, 0), swing=0.0)), 4000)
    usual = noise[noise < 2]
    assert np.log(usual).std() == pytest.approx(0.01, rel=0.1)
    assert len(usual) / len(noise) == pytest.approx(0.98, abs=0.01)
    busy = drawn(SyntheticDevice(1, Disturbance(spell=(0, 1e9), swing=0.0)), 4000)
    assert np.median(busy) == pytest.approx(1.08, rel=0.002)
    swinging = drawn(SyntheticDevice(1, Disturbance(0.0, 0.0, swing=0.02, spell=(0, 0))), 4000)
    assert np.ptp(swinging) == pytest.approx(0.04, rel=0.05)


def test_the_same_seed_gives_the_same_seconds_and_another_does_not() -> None:
    first, second, other = (drawn(SyntheticDevice(x), 50) for x in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert (first != other).all()

"""When enough was timed, and what a visit is made of."""

from __future__ import annotations

import numpy as np

from smartprof.calibrate.schedule import MAX_SAMPLES, MIN_SAMPLES, visit
from smartprof.calibrate.stopping import StoppingRule, outliers
from tests.synthetic_device import Disturbance, SyntheticDevice

RULE = StoppingRule(0.005)


def noisy(count: int, noise: float, seed: int = 0) -> list[float]:
    return np.exp(noise * np.random.default_rng(seed).normal(size=count)).tolist()


def needed(noise: float, seed: int) -> int:
    samples = noisy(RULE.most, noise, seed)
    return next(x for x in range(1, RULE.most + 1) if RULE.settled(samples[:x]))


def test_few_samples_never_settle_however_alike_they_are() -> None:
    assert not RULE.settled([1.0] * (RULE.least - 1))
    assert RULE.settled([1.0] * RULE.least)


def test_a_narrow_interval_settles_and_a_wide_one_does_not() -> None:
    assert RULE.settled(noisy(40, 0.003))
    assert not RULE.settled(noisy(10, 0.05))


def test_more_noise_needs_more_samples() -> None:
    means = [np.mean([needed(x, seed) for seed in range(20)]) for x in (0.002, 0.01, 0.03)]
    assert means[0] < means[1] < means[2]


def test_noise_that_is_known_settles_before_the_goal_is_reached() -> None:
    wide = StoppingRule(1e-6)
    ends = [next(x for x in range(1, 201) if wide.settled(noisy(200, 0.05, s)[:x])) for s in (0, 1)]
    assert all(wide.least * 4 <= x < wide.most for x in ends)


def test_a_cap_settles_whatever_the_noise() -> None:
    assert StoppingRule(1e-9, converged=0.0).settled(noisy(200, 0.5))


def test_spikes_are_marked_and_ordinary_noise_is_not() -> None:
    samples = noisy(200, 0.01)
    assert outliers(samples).sum() == 0
    samples[7] *= 5
    assert np.flatnonzero(outliers(samples)).tolist() == [7]
    assert outliers([1.0] * 5).sum() == 0
    assert outliers([1.0]).tolist() == [False]


def test_a_visit_warms_up_by_time_and_leaves_that_out() -> None:
    device = SyntheticDevice(0, Disturbance(0.0, 0.0, spell=(0, 0), swing=0.0))

    def sample() -> float:
        device.clock += 0.01
        device.runs += 1
        return 1e-6 * device.runs

    assert visit(sample, device.now, 0.005, warm_seconds=0.045) == [6e-6]
    assert device.runs == 5 + MIN_SAMPLES
    assert visit(sample, device.now, 0.005, warm_seconds=0.0) == [7e-6]


def test_a_call_that_fills_a_visit_is_no_warm_up() -> None:
    device = SyntheticDevice(0)

    def sample() -> float:
        device.clock += 0.3
        device.runs += 1
        return 0.3

    assert visit(sample, device.now, 0.12, warm_seconds=0.04) == [0.3]
    assert device.runs == 1
    assert visit(sample, device.now, 0.12, warm_seconds=0.04, least=2) == [0.3, 0.3]


def test_a_visit_ends_at_the_most_samples_however_much_time_is_left() -> None:
    assert len(visit(lambda: 1e-9, lambda: 0.0, 600.0, warm_seconds=0.0)) == MAX_SAMPLES

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from smartprof.calibrate.fit import fit_surface, free_tokens
from smartprof.profile.knees import free_interval, with_intervals
from smartprof.profile.refits import drawn_seconds
from smartprof.stats import Summary, summarise
from tests.profiles import make_surface
from tests.synthetic_device import Point, SyntheticDevice, true_free_tokens, verify_seconds

SIZES = np.array([1.0, 4.0, 8.0, 16.0])
PAIRED = (1, 2, 4, 8, *(y for x in range(16, 256, 16) for y in (x, x + 1)), 256)
POWERS = tuple(2**x for x in range(9))
SEEDS = 50


@pytest.mark.parametrize(
    ("seconds", "surcharge", "estimate", "expected"),
    [
        ([1.0, 1.0, 1.05, 2.0], 0.10, 8, (8, 15)),
        ([1.0, 1.0, 1.05, 2.0], 0.50, 11, (8, 15)),
        ([1.0, 1.2, 1.0, 1.0], 0.10, 2, (1, 3)),
        ([1.0, 1.0, 1.05, 1.1], 0.10, None, (None, None)),
        ([1.0, 1.0, 1.05, 1.1], 0.10, 16, (16, None)),
        ([1.0, 1.0, 1.05, 2.0], 0.10, 3, (3, 15)),
        ([1.0, 1.0, 1.05, 2.0], 0.10, None, (8, None)),
    ],
)
def test_without_noise_the_interval_reaches_from_knot_to_knot_and_holds_the_estimate(
    seconds: list[float], surcharge: float, estimate: int | None, expected: tuple[int | None, ...]
) -> None:
    assert free_interval(SIZES, np.array([seconds] * 7), surcharge, estimate) == expected


@pytest.mark.parametrize("top", [1.08, 1.3])
def test_bounds_are_the_quantiles_of_the_bounds_of_each_refit(top: float) -> None:
    draws = np.random.default_rng(2).uniform(0.95, 1.12, (400, 4)) * [1.0, 1.05, 1.1, top]
    lows, highs = [], []
    for row in draws:
        over = [i for i in range(4) if row[i] > 1.1 * row[0]]
        lows.append(SIZES[over[0] - 1] if over else 17)
        highs.append(SIZES[over[0]] - 1 if over else 17)
    low, high = sorted(lows)[10 - 1], sorted(highs)[390 - 1]
    assert free_interval(SIZES, draws, 0.10, 4) == (low, None if high == 17 else high)
    assert {low, high} <= {1.0, 4.0, 15.0, 17.0} and len(set(highs)) > 2


def test_every_curve_gets_its_intervals_and_nothing_else_changes() -> None:
    surface = make_surface("verify", verify_seconds, half_width=0.01)
    found = with_intervals(surface)
    assert all(x.free_tokens_10_interval for x in found.curves)
    assert all(x.free_tokens_50_interval for x in found.curves)
    nothing = {"free_tokens_10_interval": None, "free_tokens_50_interval": None}
    assert [x.model_copy(update=nothing) for x in found.curves] == surface.curves
    assert found.model_copy(update={"curves": surface.curves}) == surface


def _measured(seed: int, sizes: Sequence[int]) -> dict[tuple[int, int, int], Summary]:
    device = SyntheticDevice(seed)
    points = {}
    for size in sizes:
        sample = device.sampler(Point("verify", 1, size, 64))
        points[1, size, 64] = summarise([sample() for _ in range(9)])
    return points


def _caught(sizes: Sequence[int]) -> dict[float, float]:
    """Share of seeds in which the interval holds the true knee, by surcharge."""
    caught = {0.10: 0, 0.50: 0}
    for seed in range(SEEDS):
        (curve,) = fit_surface("verify", _measured(seed, sizes)).curves
        intervals = (curve.free_tokens_10_interval, curve.free_tokens_50_interval)
        for surcharge, interval in zip(caught, intervals, strict=True):
            assert interval is not None
            low, high = (1000 if x is None else x for x in interval)
            caught[surcharge] += low <= true_free_tokens(surcharge) <= high
    return {x: y / SEEDS for x, y in caught.items()}


@pytest.mark.parametrize("sizes", [PAIRED, POWERS], ids=["pairs", "powers of two"])
def test_the_true_knee_lies_within_its_interval_for_nine_seeds_in_ten(sizes: Sequence[int]) -> None:
    assert min(_caught(sizes).values()) >= 0.9


def test_an_interval_of_interpolated_crossings_misses_a_step_between_powers_of_two() -> None:
    """Negative control: what the noise leaves open is not all that is open."""
    caught = 0
    for seed in range(SEEDS):
        (curve,) = fit_surface("verify", _measured(seed, POWERS)).curves
        draws = drawn_seconds(curve, 200, np.random.default_rng(0))
        found = [free_tokens(np.array(POWERS, float), x, 0.50) or 1000 for x in draws]
        low, high = np.quantile(found, [0.025, 0.975])
        caught += low <= true_free_tokens(0.50) <= high
    assert caught / SEEDS < 0.5

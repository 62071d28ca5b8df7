from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from smartprof.policies.exponential import ExponentialCost, fit_exponential

SIZES = ([2, 4, 8, 16, 32], [1, 51, 101, 151, 201], [1, 2, 3, 4, 5])
KNOWN = (
    ExponentialCost(0.02, 0.3, 0.8),
    ExponentialCost(1.0, 1e-3, 2.0),
    ExponentialCost(5.0, 2.0, 0.3),
    ExponentialCost(0.01, 0.05, 1.0),
)


def error(cost: ExponentialCost, sizes: list[int], seconds: np.ndarray) -> float:
    return float(((cost.seconds(sizes) - seconds) ** 2).sum())


# all but the one whose last point would cost e**40 times its first
@pytest.mark.parametrize(
    ("known", "sizes"), [x for x in product(KNOWN, SIZES) if x != (KNOWN[1], SIZES[1])]
)
def test_a_curve_is_recovered_from_five_of_its_points(
    known: ExponentialCost, sizes: list[int]
) -> None:
    fit = fit_exponential(sizes, known.seconds(sizes))
    assert (fit.gamma, fit.delta, fit.rho) == pytest.approx(
        (known.gamma, known.delta, known.rho), rel=1e-6
    )


@pytest.mark.parametrize("power", [0.5, 1.0, 1.7])
def test_a_power_law_is_the_limit_of_small_exponents(power: float) -> None:
    sizes = np.array([1, 10, 20, 40, 80])
    fit = fit_exponential(sizes, 0.01 * sizes**power)
    assert fit.seconds(sizes) == pytest.approx(0.01 * sizes**power, rel=1e-3)


@pytest.mark.parametrize("seed", range(15))
def test_no_other_curve_is_nearer_to_points_that_lie_on_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = SIZES[seed % len(SIZES)]
    seconds = 1 + rng.uniform(0, 2) * np.sort(rng.random(5)) + 0.1 * rng.random(5)
    fit = fit_exponential(sizes, seconds)
    found = error(fit, sizes, seconds)
    worse = 0
    for _ in range(400):  # others far and near, each with its own best factor
        spread = 10.0 ** rng.uniform(-4, 0.5)
        delta, rho = np.array([fit.delta, fit.rho]) * np.exp(spread * rng.normal(size=2))
        exponent = delta * max(sizes) ** rho
        if not (1e-5 <= exponent <= 30 and 0.02 <= rho <= 12):
            continue
        basis = ExponentialCost(1.0, float(delta), float(rho)).seconds(sizes)
        other = ExponentialCost(float(basis @ seconds / (basis @ basis)), delta, rho)
        assert error(other, sizes, seconds) >= found * (1 - 1e-6)
        worse += error(other, sizes, seconds) > found * 1.01
    assert worse > 20


def test_more_seconds_scale_the_factor_alone() -> None:
    sizes, seconds = [1, 3, 5, 7, 9], np.array([1.0, 1.2, 1.5, 2.2, 2.4])
    one, ten = fit_exponential(sizes, seconds), fit_exponential(sizes, 10 * seconds)
    assert (ten.gamma, ten.delta, ten.rho) == pytest.approx(
        (10 * one.gamma, one.delta, one.rho), rel=1e-4
    )


def test_the_slope_is_the_derivative() -> None:
    for known in KNOWN:
        for n in (1.0, 3.0, 20.0):
            step = 1e-5 * n
            difference = (known.seconds(n + step) - known.seconds(n - step)) / (2 * step)
            assert known.slope(n) == pytest.approx(float(difference), rel=1e-6)


def test_costs_that_start_high_are_mispriced_at_few_tokens() -> None:
    """The weights are read for one token as for many; a curve through the origin cannot say so."""
    sizes = np.array([1, 51, 101, 151, 201])
    seconds = 1.0 + 0.02 * sizes
    fit = fit_exponential(sizes, seconds)
    assert abs(fit.seconds(1) / seconds[0] - 1) > 0.05
    # ... nor what a second token costs: far more than it does
    assert fit.seconds(2) - fit.seconds(1) > 5 * 0.02


@pytest.mark.parametrize(
    ("sizes", "seconds"), [([3, 3], [1, 1]), ([0, 1], [1, 1]), ([1, 2], [1, 0]), ([1], [1])]
)
def test_points_that_determine_no_curve_are_refused(sizes: list[int], seconds: list[float]) -> None:
    with pytest.raises(ValueError, match="expected positive seconds at two or more"):
        fit_exponential(sizes, seconds)

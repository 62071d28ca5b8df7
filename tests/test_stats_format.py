from __future__ import annotations

import math

import numpy as np
import pytest

from smartprof.format import bytes_text, percent_text, ratio_text, seconds_text
from smartprof.stats import bootstrap_interval, summarise


def test_median_and_spread_are_those_worked_out_by_hand() -> None:
    found = summarise([1.0, 2.0, 4.0, 8.0, 100.0])
    assert found.median == 4.0
    assert found.spread == 3.0  # distances 3, 2, 0, 4, 96
    assert found.samples == 5


def test_one_outlier_moves_neither_median_nor_spread_much() -> None:
    calm = summarise([1.00, 1.01, 1.02, 1.03, 1.04])
    struck = summarise([1.00, 1.01, 1.02, 1.03, 50.0])
    assert struck.median == calm.median
    assert struck.spread <= 1.01 * calm.spread


def test_equal_samples_have_no_spread_and_no_interval() -> None:
    found = summarise([0.5] * 9)
    assert (found.median, found.spread, found.ci_half_width) == (0.5, 0.0, 0.0)


def test_two_samples_give_half_their_range_as_interval() -> None:
    assert summarise([1.0, 3.0]).ci_half_width == 1.0


def test_no_sample_is_an_error_and_not_a_zero() -> None:
    with pytest.raises(ValueError, match="no samples"):
        summarise([])


def test_the_same_samples_give_the_same_interval() -> None:
    samples = np.random.default_rng(0).normal(1.0, 0.1, 40).tolist()
    assert summarise(samples) == summarise(samples)


def test_the_interval_of_the_median_shrinks_with_the_square_root_of_the_samples() -> None:
    draw = np.random.default_rng(1)
    few = np.mean([summarise(draw.normal(1.0, 0.1, 25)).ci_half_width for _ in range(40)])
    many = np.mean([summarise(draw.normal(1.0, 0.1, 400)).ci_half_width for _ in range(40)])
    assert 3.0 < few / many < 5.5


def test_the_interval_covers_the_true_median_about_nineteen_times_in_twenty() -> None:
    draw = np.random.default_rng(2)
    hits = [
        abs(found.median - math.log(2.0)) <= 1.2 * found.ci_half_width
        for found in (summarise(draw.exponential(1.0, 30)) for _ in range(300))
    ]
    assert 0.88 <= np.mean(hits) <= 0.995


def test_an_interval_that_is_half_as_wide_covers_far_less_often() -> None:
    """Negative control for the coverage test."""
    draw = np.random.default_rng(2)
    hits = [
        abs(found.median - math.log(2.0)) <= 0.5 * found.ci_half_width
        for found in (summarise(draw.exponential(1.0, 30)) for _ in range(300))
    ]
    assert np.mean(hits) < 0.8


def test_the_interval_of_a_mean_agrees_with_the_normal_one() -> None:
    values = np.random.default_rng(3).normal(5.0, 2.0, 500)
    low, high = bootstrap_interval(values, lambda x: x.mean(axis=-1), resamples=2000)
    half = 1.96 * values.std() / math.sqrt(500)
    assert low == pytest.approx(values.mean() - half, abs=0.25 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.25 * half)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2.0, "2 s"),
        (1.0, "1 s"),
        (0.0123456, "12.3 ms"),
        (0.999, "999 ms"),
        (4.2e-5, "42 us"),
        (3.21e-7, "321 ns"),
        (0.0, "0 ns"),
        (None, "-"),
    ],
)
def test_seconds_keep_three_digits_and_a_unit(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9996, "1 s"),
        (9.9996e-4, "1 ms"),
        (9.9996e-7, "1 us"),
        (1234.5, "1234 s"),
        (999.7, "1000 s"),
    ],
)
def test_seconds_are_never_printed_with_an_exponent(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 << 20, "3.0 MiB"),
        (1.5 * (1 << 30), "1.5 GiB"),
    ],
)
def test_bytes_are_in_binary_units(count: float, text: str) -> None:
    assert bytes_text(count) == text


def test_ratios_and_percentages_have_fixed_digits_and_none_is_a_dash() -> None:
    assert [ratio_text(x) for x in (1.0, 0.966, 12.345, None)] == ["1.00x", "0.97x", "12.35x", "-"]
    assert [percent_text(x) for x in (0.0, 4.04, None)] == ["0.0 %", "4.0 %", "-"]

"""Refinement goes where a curve may hide something, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from smartprof.calibrate.adaptive import (
    ELSEWHERE,
    best_split,
    interest,
    predicted_errors,
    split_size,
)
from smartprof.calibrate.plan import BASE_SIZES, Point
from smartprof.calibrate.refine import next_point
from smartprof.stats import Summary

BOUNDARIES = tuple(range(16, 256, 16))


def curve(law: Callable[[int], float], sizes: tuple[int, ...], noise: float) -> dict[int, Summary]:
    return {x: Summary(law(x), 0.0, noise * law(x), 9) for x in sizes}


def refined(law: Callable[[int], float], count: int, noise: float = 0.002) -> list[int]:
    """Sizes that are added, one after the other."""
    known, added = curve(law, BASE_SIZES, noise), []
    while len(added) < count:
        split = best_split(known, BOUNDARIES)
        if split is None:
            break
        assert split.size not in known
        known |= curve(law, (split.size,), noise)
        added.append(split.size)
    return added


@pytest.mark.parametrize("step", [*range(17, 65), 97, 150, 200])
def test_a_step_is_bisected_to_its_two_sides(step: int) -> None:
    added = refined(lambda x: 0.02 * (1.25 if x >= step else 1.0), 12)
    assert {step - 1, step} <= {*added, *BASE_SIZES}


@pytest.mark.parametrize("step", [23, 41, 60, 100])
def test_a_fall_is_found_as_a_step_is(step: int) -> None:
    added = refined(lambda x: 0.02 * (0.8 if x >= step else 1.0), 12)
    assert {step - 1, step} <= {*added, *BASE_SIZES}


def test_a_flat_and_a_straight_curve_bring_nothing() -> None:
    assert refined(lambda x: 0.02, 20) == []
    assert len(refined(lambda x: 0.02 + 1e-5 * x, 20)) <= 1


def test_what_noise_alone_explains_brings_nothing() -> None:
    draw = np.random.default_rng(3)
    for _ in range(20):
        known = {
            x: Summary(0.02 * (1 + 0.01 * draw.normal()), 0.0, 0.03 * 0.02, 5) for x in BASE_SIZES
        }
        assert best_split(known, BOUNDARIES) is None


def test_less_noise_reveals_the_same_step_that_more_noise_hides() -> None:
    def law(size: int) -> float:
        return 0.02 * (1.04 if size >= 40 else 1.0)

    assert refined(law, 1, noise=0.03) == []
    assert refined(law, 1, noise=0.002) != []


def test_where_trees_land_a_jump_counts_more() -> None:
    sizes = np.array(BASE_SIZES)
    found = interest(sizes, 0.02 + 2e-4 * np.maximum(0, sizes - 32))
    assert found.max() <= 1.0
    assert found[-1] == ELSEWHERE < found.max()  # 128 to 256 tokens pay for no tree there


def test_errors_are_those_worked_out_by_hand() -> None:
    sizes = np.array([1, 5, 9, 13])
    seconds = np.array([1.0, 1.0, 1.4, 1.4])
    quiet = predicted_errors(sizes, seconds, np.zeros(4))
    assert quiet[1] == pytest.approx(0.2)  # half of a rise that its neighbours do not have
    assert predicted_errors(sizes, seconds, np.full(4, 0.1))[1] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (16, 32, 17),  # the other side of a boundary that was measured
        (17, 32, 24),  # no boundary inside: the middle
        (33, 64, 48),
        (64, 128, 65),
        (65, 128, 96),
        (8, 10, 9),
        (2, 8, 4),
    ],
)
def test_an_interval_is_split_where_a_jump_is_likely(low: int, high: int, expected: int) -> None:
    assert split_size(low, high, BOUNDARIES) == expected


def test_every_split_lies_inside_its_interval() -> None:
    for low in range(1, 60):
        for high in range(low + 2, 130, 7):
            assert low < split_size(low, high, BOUNDARIES) < high
            assert low < split_size(low, high, ()) < high


def passes(interacting: float) -> dict[Point, Summary]:
    """Verify passes whose time is even, but for the middle of the longest curve."""
    found = {}
    for batch in (1, 4, 16):
        for context in (64, 1024):
            for size in sorted({batch, 64, 256}):
                odd = interacting if (batch, context, size) == (16, 1024, 64) else 1.0
                seconds = odd * (0.02 + 1e-6 * size + 1e-7 * batch * context)
                point = Point("verify", batch, size, context)
                found[point] = Summary(seconds, 0.0, 1e-3 * seconds, 9)
    return found


def test_batch_and_context_that_interact_bring_a_point_there() -> None:
    assert next_point(passes(1.0), BOUNDARIES) is None
    found = next_point(passes(1.3), BOUNDARIES)
    assert found is not None
    assert (found.quantity, found.batch, found.context) == ("verify", 16, 1024)

"""How fast a device was is told from visits alone, and nothing else is set right with it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from smartprof.calibrate.pace import pace_warnings, paces, restless, spells, steadied
from smartprof.calibrate.plan import Point
from smartprof.calibrate.visits import Visit

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
FLOOR = 0.02
USUAL = {x: FLOOR + 2e-4 * x for x in SIZES}
NOISE = 0.01


def order(rounds: int) -> NDArray[np.int64]:
    """Every size once a round, each round in another order."""
    draw = np.random.default_rng(0)
    return np.concatenate([draw.permutation(SIZES) for _ in range(rounds)])


def visits(
    sizes: NDArray[np.int64], floor: NDArray[np.float64], rest: NDArray[np.float64]
) -> list[Visit]:
    """Of passes whose floor and whose other seconds are slowed so, by visit; noise of 1 %."""
    draw = np.random.default_rng(1)
    found = []
    for size, slow, slower in zip(sizes.tolist(), floor, rest, strict=True):
        seconds = FLOOR * slow + (USUAL[size] - FLOOR) * slower
        samples = seconds * np.exp(NOISE * draw.normal(size=4))
        found.append(Visit(Point("verify", 1, size, 64), tuple(samples.tolist())))
    return found


def spell(count: int, start: int, end: int, factor: float) -> NDArray[np.float64]:
    slow = np.ones(count)
    slow[start:end] = factor
    return slow


def errors(found: dict[Point, list[float]]) -> dict[int, float]:
    """Of the medians, relative."""
    return {x.size: abs(float(np.median(y)) / USUAL[x.size] - 1) for x, y in found.items()}


def test_slow_memory_is_taken_out_of_the_passes_that_wait_for_it() -> None:
    """For a third of the time, so that small passes were timed there more than once."""
    sizes = order(6)
    made = visits(sizes, spell(48, 16, 34, 1.4), np.ones(48))
    assert max(errors(steadied(made, paces(made))).values()) < 2 * NOISE
    found = paces(made)
    slow = FLOOR * 0.4 / np.array([USUAL[x] for x in sizes.tolist()])
    np.testing.assert_allclose(found[18:32], 1 + slow[18:32], atol=0.06)
    np.testing.assert_allclose(np.r_[found[:14], found[36:]], 1.0, atol=0.03)


def test_a_lower_clock_is_taken_out_of_all_passes() -> None:
    made = visits(order(6), spell(48, 10, 26, 1.5), spell(48, 10, 26, 1.5))
    assert max(errors(steadied(made, paces(made))).values()) < 3 * NOISE
    assert max(errors(steadied(made, np.ones(48))).values()) > 10 * NOISE  # negative control


def test_visits_at_another_pace_count_only_where_there_are_hardly_others() -> None:
    """Here 13 tokens take longer just when passes of fewer tokens take less time.

    No paces make that. Two of four visits to 13 were calm, one of four to 14 was.
    """
    calm = [(x, USUAL[x]) for x in order(6).tolist()]
    other = [(x, 0.7 * USUAL[x]) for x in order(2).tolist()]
    usual = {13: 0.023, 14: 0.0235}
    spell_of = [(x, 1.3 * usual[x]) for x in (13, 14, 13, 14, 14)]
    once, both = [(13, usual[13])], list(usual.items())
    timed = calm[:16] + once + calm[16:32] + both + calm[32:] + other[:8] + spell_of + other[8:]
    made = [Visit(Point("verify", 1, x, 64), (y,) * 4) for x, y in timed]
    found = paces(made)
    points = {x: Point("verify", 1, x, 64) for x in usual}
    assert restless(made, found, 0.08).keys() == {points[14]}
    counted = steadied(made, found, 0.08)
    assert np.median(counted[points[13]]) == pytest.approx(usual[13], rel=NOISE)
    assert len(counted[points[14]]) == 16  # all that there is
    everything = steadied(made, found)  # negative control
    assert abs(np.median(everything[points[13]]) / usual[13] - 1) > 10 * NOISE


def test_a_spell_may_slow_the_passes_between_and_speed_up_those_at_an_end() -> None:
    """As where memory gets faster and arithmetic slower."""
    sizes, draw = order(8), np.random.default_rng(2)
    usual = {x: (FLOOR**4 + (1e-3 * x) ** 4) ** 0.25 for x in SIZES}
    factors = dict(zip(SIZES, (0.7, 0.7, 0.7, 0.72, 0.85, 1.18, 1.12, 1.05), strict=True))
    made = []
    for i, size in enumerate(sizes.tolist()):
        factor = factors[size] if 20 <= i < 44 else 1.0
        samples = usual[size] * factor * np.exp(NOISE * draw.normal(size=4))
        made.append(Visit(Point("verify", 1, size, 64), tuple(samples.tolist())))
    found = paces(made)
    told = [factors[x] for x in sizes[22:42].tolist()]
    np.testing.assert_allclose(found[22:42], told, rtol=0.05)
    np.testing.assert_allclose(np.r_[found[:18], found[46:]], 1.0, atol=0.04)
    for point, samples in steadied(made, found).items():
        assert np.median(samples) == pytest.approx(usual[point.size], rel=3 * NOISE)


def test_a_pass_that_reads_long_contexts_waits_for_memory_as_a_small_one_does() -> None:
    """Slow memory slows the one with long contexts, and not the other one of 64 tokens."""
    shapes = ((1, 1, 64), (16, 64, 2048), (1, 64, 64), (1, 256, 64))
    small, long, short, large = (Point("verify", *x) for x in shapes)
    usual = {small: 0.02, long: 0.08, short: 0.032, large: 0.06}
    draw, made = np.random.default_rng(3), []
    for i, point in enumerate([x for _ in range(16) for x in usual]):
        slow = 1.4 if 24 <= i < 48 and point in (small, long) else 1.0
        samples = slow * usual[point] * np.exp(NOISE * draw.normal(size=3))
        made.append(Visit(point, tuple(samples.tolist())))
    of_spell = [i for i, x in enumerate(made) if x.point == long and 26 <= i < 46]
    reads = 2.0 / (16 * 2048)  # three times as much as without contexts
    np.testing.assert_allclose(paces(made, (reads, 0.0))[of_spell], 1.4, rtol=0.03)
    assert (paces(made)[of_spell] < 1.3).all()  # negative control


def test_visits_of_a_steady_device_stay_as_they_are() -> None:
    made = visits(order(6), np.ones(48), np.ones(48))
    np.testing.assert_allclose(paces(made), 1.0, atol=NOISE)


def test_a_size_that_is_slow_whenever_it_is_timed_stays_so() -> None:
    """A step of the device is no pace."""
    step = {**USUAL, 32: 2 * USUAL[32]}
    made = [Visit(Point("verify", 1, x, 64), (step[x], step[x])) for x in order(3).tolist()]
    kept = steadied(made, paces(made))[Point("verify", 1, 32, 64)]
    assert kept == pytest.approx([step[32]] * 6)


def test_what_is_no_pass_of_the_target_neither_tells_the_pace_nor_is_changed_by_it() -> None:
    passes = visits(order(6), spell(48, 16, 34, 1.4), np.ones(48))
    lookup = Point("draft_step", 1, 1, 64, "ngram")
    mixed = [y for i, x in enumerate(passes) for y in (x, Visit(lookup, (1e-4 * (1 + i % 5),)))]
    found = paces(mixed)
    assert (found[1::2] == 1.0).all()
    np.testing.assert_allclose(found[::2], paces(passes), rtol=0.02)  # of other stretches
    assert paces(mixed[1::2]).tolist() == [1.0] * 48
    assert paces([]).tolist() == []


def test_one_sample_five_times_too_long_is_no_pace() -> None:
    made = visits(order(6), np.ones(48), np.ones(48))
    spiked = [*made]
    spiked[20] = Visit(made[20].point, (5 * made[20].samples[0],))
    np.testing.assert_allclose(paces(spiked), 1.0, atol=2 * NOISE)


def test_spells_are_counted_and_said_when_they_are_no_exception() -> None:
    found = np.ones(40)
    found[3:5], found[10] = 1.2, 0.8
    assert spells(found, 0.08) == 2
    assert spells(found, 0.3) == 0
    assert spells(found[3:], 0.08) == 2  # one that has lasted from the start is one
    assert pace_warnings(found, 0.08) == []
    found[20:30] = 1.3
    [warning] = pace_warnings(found, 0.08)
    assert "32 % of the visits strayed" in warning
    assert pace_warnings(np.array([]), 0.08) == []

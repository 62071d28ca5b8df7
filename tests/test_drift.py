"""A device that changes its pace is noticed, and what it spoiled is known."""

from __future__ import annotations

from smartprof.calibrate.drift import ACCEPTED, FIRST, PaceKeeper
from smartprof.calibrate.plan import Point
from smartprof.calibrate.visits import Visit, add_visit

PATIENCE = 26.0  # ten visits at a strange pace
SENTINEL = Point("verify", 1, 8, 64)


def sentinel(pace: float) -> Visit:
    return Visit(SENTINEL, (pace, pace))


def ordinary(size: int) -> Visit:
    return Visit(Point("verify", 1, size, 64), (1.0, 1.1))


def settled() -> PaceKeeper:
    keeper = PaceKeeper(0.05, PATIENCE)
    for _ in range(FIRST):
        assert keeper.check(sentinel(1.0)) == []
    return keeper


def test_a_steady_pace_asks_for_nothing() -> None:
    keeper = settled()
    keeper.note(ordinary(1))
    assert keeper.check(sentinel(1.04)) == []
    assert (keeper.waiting, keeper.spells, keeper.warnings()) == (False, 0, [])


def test_visits_between_a_steady_and_a_strange_pace_are_made_again_when_it_is_back() -> None:
    keeper = settled()
    keeper.note(ordinary(1))
    keeper.check(sentinel(1.0))
    keeper.note(ordinary(2))
    keeper.note(ordinary(3))
    strange = sentinel(1.3)
    assert keeper.check(strange) == []
    assert keeper.waiting
    assert keeper.check(sentinel(1.01)) == [ordinary(2), ordinary(3), strange]
    assert not keeper.waiting
    assert keeper.spells == 1
    keeper.note(ordinary(4))
    assert keeper.check(sentinel(1.0)) == []


def test_a_faster_pace_is_strange_at_first_and_usual_once_it_stays() -> None:
    """What was measured before, at a pace that was none, is made again."""
    keeper = settled()
    keeper.note(ordinary(1))
    keeper.check(sentinel(1.0))
    again = [x for _ in range(ACCEPTED) for x in keeper.check(sentinel(0.8))]
    assert ordinary(1) in again
    assert [x.point for x in again].count(SENTINEL) == 1
    assert not keeper.waiting
    assert keeper.check(sentinel(0.81)) == []
    assert keeper.warnings() == []


def test_one_strange_visit_among_the_first_decides_nothing() -> None:
    keeper = PaceKeeper(0.05, PATIENCE)
    for pace in (1.0, 9.0, 1.01):
        keeper.check(sentinel(pace))
    keeper.check(sentinel(1.02))
    assert keeper.spells == 0


def test_patience_ends_and_the_slower_pace_is_usual_until_the_better_one_is_back() -> None:
    keeper = settled()
    while keeper.patience_seconds > 0:
        keeper.check(sentinel(1.3))
    assert (keeper.waiting, keeper.spells) == (False, 1)
    assert keeper.check(sentinel(1.31)) == []
    assert "changed its pace" in keeper.warnings()[0]
    keeper.note(ordinary(1))
    assert keeper.check(sentinel(1.29)) == []
    keeper.note(ordinary(2))
    again = keeper.check(sentinel(1.01))
    assert again[-2:] == [ordinary(1), ordinary(2)]
    assert [1.0 in x.samples for x in again if x.point == SENTINEL] == [False]
    assert keeper.warnings() == []


def test_what_is_replaced_counts_no_longer() -> None:
    samples = {SENTINEL: [1.0, 1.3, 1.3, 0.9]}
    add_visit(samples, Visit(SENTINEL, (1.01,), replaced=(1.3, 1.3)))
    assert samples == {SENTINEL: [1.0, 0.9, 1.01]}

from __future__ import annotations

from pathlib import Path

import pytest

from smartprof.calibrate.journal import Journal
from smartprof.calibrate.plan import Point
from smartprof.calibrate.repeats import pooled, repeatability, resumed
from smartprof.calibrate.sweep import Samples, Visit

POINTS = [Point("verify", 1, x, 64) for x in range(1, 5)]


def sweep_of(*medians: float) -> Samples:
    """Samples of the first points with these medians, one of each far outside."""
    return {x: [y, y, 9.0, y, y] for x, y in zip(POINTS, medians, strict=False)}


def test_two_sweeps_differ_by_percent_of_the_mean_of_both() -> None:
    one, other = sweep_of(0.100, 0.2, 0.300, 1.0), sweep_of(0.102, 0.2, 0.270)
    found = repeatability([one, other])
    assert found is not None
    expected = [200 / 101, 0.0, 200 * 30 / 570]
    assert found.shapes == 3
    assert found.median_pct == pytest.approx(expected[0])
    assert found.p95_pct == pytest.approx(expected[0] + 0.9 * (expected[2] - expected[0]))
    assert found.max_pct == pytest.approx(expected[2])
    assert repeatability([other, one]) == found


def test_one_sweep_and_sweeps_without_a_common_shape_say_nothing() -> None:
    assert repeatability([sweep_of(1.0)]) is None
    assert repeatability([sweep_of(1.0), {}]) is None


def test_the_profile_rests_on_the_samples_of_all_sweeps() -> None:
    one, other = {POINTS[0]: [1.0, 2.0]}, {POINTS[1]: [4.0], POINTS[0]: [3.0]}
    assert pooled([one, other]) == {POINTS[0]: [1.0, 2.0, 3.0], POINTS[1]: [4.0]}
    assert one == {POINTS[0]: [1.0, 2.0]}


def test_each_sweep_keeps_its_samples_apart_over_an_interruption(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "p.json.partial.jsonl", {"key": 1})
    first, second = resumed(journal, {}, 2)
    for record, seconds in ((first, 0.1), (second, 0.2)):
        assert not record.complete
        record.journal.start()
        record.add(Visit(POINTS[0], (seconds, seconds)))
    again = resumed(journal, journal.read(), 2)
    assert [x.samples for x in again] == [{POINTS[0]: [0.1, 0.1]}, {POINTS[0]: [0.2, 0.2]}]
    assert [x.complete for x in again] == [True, False]
    journal.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_first_sweep_alone_is_not_complete(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "p.json.partial.jsonl", {"key": 1})
    known = sweep_of(0.1)
    first, second = resumed(journal, known, 2)
    assert not first.complete
    assert second.samples == {}
    first.samples[POINTS[0]].append(7.0)
    assert known == sweep_of(0.1)
    assert len(resumed(journal, known, 1)) == 1

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from smartprof.calibrate.journal import Journal
from smartprof.calibrate.measure import Measured
from smartprof.calibrate.pace import paces, steadied
from smartprof.calibrate.plan import Plan, Point, make_plan
from smartprof.calibrate.repeats import (
    SweepRecord,
    measure_sweeps,
    pooled,
    repeatability,
    resumed,
)
from smartprof.calibrate.schedule import PACE_GOALS
from smartprof.calibrate.visits import Samples, Visit
from smartprof.models.shapes import named_shape
from smartprof.stats import summarise
from tests.synthetic_device import SyntheticDevice
from tests.visits import totals

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


def test_each_sweep_keeps_its_samples_apart_over_an_interruption(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "p.json.partial.jsonl", {"key": 1})
    first, second = resumed(journal, [], 2)
    for record, seconds in ((first, 0.1), (second, 0.2)):
        assert not record.complete
        record.journal.start()
        record.journal.add(Visit(POINTS[0], (seconds, seconds)))
    again = resumed(journal, journal.read(), 2)
    assert [totals(x.known) for x in again] == [{POINTS[0]: [0.1, 0.1]}, {POINTS[0]: [0.2, 0.2]}]
    assert [x.complete for x in again] == [True, False]
    assert len(resumed(journal, [], 1)) == 1
    journal.discard()
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class Twice:
    """Two sweeps over the synthetic device, and every visit by the journal that it was kept in."""

    found: list[Measured]
    visits: list[tuple[str, Visit]]
    records: list[SweepRecord]

    def of(self, number: int) -> list[Visit]:
        """The visits of one sweep."""
        return [y for x, y in self.visits if x == self.records[number].journal.path.name]


def small_plan() -> Plan:
    plan = make_plan("quick", named_shape("SmolLM2-135M"), 1 << 50, 4, 8192, ("ngram",))
    fitted = tuple(x for x in plan.fitted if x.batch <= 4 and x.context == plan.base[1])
    mode = replace(plan.mode, shapes=len(fitted) + 4)
    return replace(plan, mode=mode, fitted=fitted, fresh=())


def swept_twice(folder: Path, known: list[Visit] | None = None) -> Twice:
    journal = Journal(folder / "p.json.partial.jsonl", {"key": 1})
    records = resumed(journal, known or [], 2)
    visits: list[tuple[str, Visit]] = []

    def save(own: Journal, visit: Visit) -> None:
        own.add(visit)
        visits.append((own.path.name, visit))

    return Twice(
        measure_sweeps(small_plan(), 60.0, SyntheticDevice(1), records, save), visits, records
    )


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Twice:
    return swept_twice(tmp_path_factory.mktemp("twice"))


def test_the_second_sweep_visits_the_points_of_the_first_in_another_order(twice: Twice) -> None:
    first, second = twice.found
    assert set(first.samples) == set(second.samples)
    assert len(first.fitted) > len(small_plan().fitted)  # refined, and so is the second sweep's
    orders = [list(dict.fromkeys(x.point for x in twice.of(y))) for y in (0, 1)]
    assert set(orders[0]) == set(orders[1])
    assert orders[0] != orders[1]


def test_a_profile_rests_on_the_samples_of_both_sweeps_and_keeps_held_out_points_out(
    twice: Twice,
) -> None:
    first, second = twice.found
    both = pooled(twice.found)
    for point, samples in both.samples.items():
        assert samples == first.samples[point] + second.samples[point]
    assert both.fitted == {x: summarise(both.samples[x]) for x in first.fitted}
    assert both.first_draw == {x: summarise(both.samples[x]) for x in small_plan().held_out}
    assert not set(both.fitted) & set(both.held_out)
    assert both.drifts == first.drifts + second.drifts


def test_two_sweeps_of_a_device_with_noise_of_one_percent_differ_by_about_that(
    twice: Twice,
) -> None:
    found = repeatability([x.samples for x in twice.found])
    assert found is not None
    assert found.shapes == len(twice.found[0].samples)
    assert 0.1 < found.median_pct < 2.0


def test_a_complete_first_sweep_is_not_measured_again(twice: Twice, tmp_path: Path) -> None:
    shutil.copytree(twice.records[0].journal.path.parent, tmp_path, dirs_exist_ok=True)
    known = Journal(tmp_path / "p.json.partial.jsonl", {"key": 1}).read()
    again = swept_twice(tmp_path, known)
    assert again.of(0) == []
    found = paces(known, small_plan().context_work)
    counted = steadied(known, found, PACE_GOALS * SyntheticDevice.goal)
    assert again.found[0].samples == counted
    assert set(again.found[0].fitted) == set(twice.found[0].fitted)

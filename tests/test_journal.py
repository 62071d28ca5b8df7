from __future__ import annotations

import errno
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from smartprof import locks
from smartprof.calibrate.journal import Journal, sole_writer
from smartprof.calibrate.plan import Point
from smartprof.calibrate.visits import Visit
from smartprof.errors import SmartprofError
from smartprof.locks import one_at_a_time
from tests.visits import totals

HEADER = {"key": {"device": "Test CPU"}, "mode": "quick"}
FIRST = Visit(Point("verify", 1, 8, 64), (0.1, 0.11, 0.12))
AGAIN = Visit(Point("verify", 1, 8, 64), (0.13,))
OTHER = Visit(Point("plain_decode", 4, 4, 64), (1 / 3, 1e-7))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "p.json.partial.jsonl"


def filled(path: Path, *visits: Visit) -> Journal:
    journal = Journal(path, HEADER)
    journal.start()
    for visit in visits:
        journal.add(visit)
    return journal


def refusal(action: Any) -> str:
    with pytest.raises(SmartprofError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_there_is_nothing_to_resume_before_anything_was_measured(path: Path) -> None:
    assert totals(Journal(path, HEADER).read()) == {}
    assert totals(filled(path).read()) == {}


def test_a_later_run_reads_exactly_what_was_saved(path: Path) -> None:
    filled(path, FIRST, OTHER, AGAIN)
    assert totals(Journal(path, HEADER).read()) == {
        FIRST.point: [0.1, 0.11, 0.12, 0.13],
        OTHER.point: [1 / 3, 1e-7],
    }


def test_outliers_are_marked_and_count(path: Path) -> None:
    spiked = Visit(FIRST.point, (0.1, 0.1, 0.5, 0.1))
    filled(path, spiked)
    assert json.loads(path.read_text().splitlines()[1])["outliers"] == [2]
    assert totals(Journal(path, HEADER).read())[FIRST.point] == list(spiked.samples)


def test_a_visit_is_on_disk_as_soon_as_it_is_added(path: Path) -> None:
    journal = filled(path)
    journal.add(FIRST)
    assert path.read_bytes().endswith(b"\n")
    assert totals(Journal(path, HEADER).read()) == {FIRST.point: list(FIRST.samples)}


def test_a_last_line_cut_anywhere_loses_that_line_alone(path: Path) -> None:
    filled(path, FIRST)
    kept = path.read_bytes()
    filled(path, OTHER)
    whole = path.read_bytes()
    for end in range(len(kept), len(whole) - 1):
        path.write_bytes(whole[:end])
        assert totals(Journal(path, HEADER).read()) == {FIRST.point: list(FIRST.samples)}, end


def test_what_is_added_after_a_cut_line_is_not_glued_to_it(path: Path) -> None:
    filled(path, FIRST, AGAIN)
    path.write_bytes(path.read_bytes()[:-9])
    filled(path, OTHER)
    assert totals(Journal(path, HEADER).read()) == {
        FIRST.point: list(FIRST.samples),
        OTHER.point: list(OTHER.samples),
    }


def test_a_first_line_cut_short_means_that_nothing_was_measured_yet(path: Path) -> None:
    filled(path)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert totals(Journal(path, HEADER).read()) == {}, end
        resumed = filled(path, FIRST)
        assert totals(resumed.read()) == {FIRST.point: list(FIRST.samples)}, end


def test_bytes_left_by_a_power_cut_are_skipped(path: Path) -> None:
    filled(path, FIRST)
    with path.open("ab") as file:
        file.write(b"\x00\x00\x00\xff\xfe")
    filled(path, OTHER)
    assert set(totals(Journal(path, HEADER).read())) == {FIRST.point, OTHER.point}


def test_the_unfinished_run_of_another_calibration_is_refused_and_kept(path: Path) -> None:
    filled(path, FIRST)
    before = path.read_bytes()
    text = refusal(Journal(path, HEADER | {"mode": "full"}).read)
    assert str(path) in text
    assert "--fresh" in text
    assert path.read_bytes() == before


def test_discarding_removes_the_file_and_may_be_done_twice(path: Path) -> None:
    journal = filled(path, FIRST)
    journal.discard()
    journal.discard()
    assert not path.exists()


def test_a_full_disk_is_one_line_that_says_how_to_go_on() -> None:
    text = refusal(lambda: Journal(Path("/dev/full"), HEADER).add(FIRST))
    assert "No space left on device" in text
    assert "resume" in text


def test_a_full_disk_loses_nothing_saved_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = filled(path, FIRST)

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        refusal(lambda: journal.add(OTHER))
    assert totals(Journal(path, HEADER).read()) == {FIRST.point: list(FIRST.samples)}


def test_a_folder_in_the_journal_s_place_is_one_line(path: Path) -> None:
    path.mkdir()
    refusal(Journal(path, HEADER).read)
    refusal(Journal(path, HEADER).start)


def test_a_second_calibration_that_would_write_to_the_same_journal_is_refused(path: Path) -> None:
    with sole_writer(path):
        for _ in range(2):
            text = refusal(lambda: ExitStack().enter_context(sole_writer(path)))
            assert str(path) in text and "another --out" in text
        with sole_writer(path.with_name("other.jsonl")):
            pass
        assert [x.name for x in path.parent.iterdir()] == [f"{path.name}.lock"]
    with sole_writer(path):
        pass
    assert list(path.parent.iterdir()) == []


def test_a_lock_that_a_killed_calibration_left_stops_nobody(path: Path) -> None:
    path.with_name(f"{path.name}.lock").touch()
    with sole_writer(path), pytest.raises(SmartprofError), sole_writer(path):
        pass


def test_a_lock_taken_on_a_file_that_was_removed_is_taken_again(path: Path) -> None:
    """The second opens the file, the first ends and removes it, a third makes it anew."""
    file = path.with_name("lock")
    with one_at_a_time(file):
        opened = file.open("a")
        file.unlink()
    with one_at_a_time(file), opened:
        assert not locks._taken(opened, file, "busy")
    with file.open("a") as named:
        assert locks._taken(named, file, "busy")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refusal(lambda: ExitStack().enter_context(sole_writer(tmp_path / "file" / "p.jsonl")))

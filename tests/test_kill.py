"""`kill -9` at random moments of a calibration: it resumes, and nothing measured is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smartprof.profile.files import load_profile

COMMAND = """
import sys
from smartprof import device
from smartprof.calibrate import schedule
from smartprof.cli import run
device.physical_cores = lambda: 1
schedule.VERIFY_SECONDS = schedule.WARM_SECONDS = 0.01
sys.argv = ["smartprof", "calibrate", "--gpu", "cpu", "--target", "shape:tiny-llama"]
sys.argv += ["--drafter", "ngram", "--budget", "4", "--out", sys.argv0]
run()
"""
MOST_WAIT = 120.0


class Calibration:
    """The command, in a process of its own, that may be killed and started again."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.journal = out.with_name(out.name + ".partial.jsonl")

    def start(self) -> subprocess.Popen[bytes]:
        code = COMMAND.replace("sys.argv0", repr(str(self.out)))
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def lines(self) -> list[str]:
        """Whole lines of the journal."""
        if not self.journal.exists():
            return []
        text = self.journal.read_text(encoding="utf-8")
        return text[: text.rfind("\n") + 1].splitlines()


def wait_for_lines(process: subprocess.Popen[bytes], made: Calibration, count: int) -> None:
    """Until the process has saved further visits, or ended by itself."""
    end = time.monotonic() + MOST_WAIT
    while process.poll() is None and len(made.lines()) < count:
        assert time.monotonic() < end, "nothing is measured"
        time.sleep(0.005)


def kill_at_random(made: Calibration, draw: random.Random) -> list[str]:
    """Start or resume it, kill it after some visits; the journal's whole lines then."""
    before = made.lines()
    process = made.start()
    wait_for_lines(process, made, len(before) + draw.randint(0, 8))
    time.sleep(draw.random() * 0.05)
    process.send_signal(signal.SIGKILL)
    _, text = process.communicate()
    assert process.returncode == -signal.SIGKILL, text.decode()
    return before


def survives(folder: Path, kills: int, seed: int) -> None:
    made, draw = Calibration(folder / "p.json"), random.Random(seed)
    for _ in range(kills):
        before = kill_at_random(made, draw)
        assert not made.out.exists()
        assert made.lines()[: len(before)] == before  # what was saved stays as it was
        # A killed process cannot remove the file of its lock, which holds nobody up.
        assert set(os.listdir(folder)) <= {made.journal.name, f"{made.journal.name}.lock"}
    saved = made.lines()
    samples = sum(len(json.loads(x)["samples"]) for x in readable(saved[1:]))
    assert samples > 0
    process = made.start()
    _, text = process.communicate(timeout=MOST_WAIT)
    assert process.returncode == 0, text.decode()
    assert b"resuming" in text
    quality = load_profile(made.out).quality  # its checksum holds
    assert quality.forwards >= samples
    assert os.listdir(folder) == [made.out.name]


def readable(lines: list[str]) -> list[str]:
    """Without lines that a kill has cut short, and the empty ones that follow."""
    found = []
    for line in lines:
        try:
            json.loads(line)
        except json.JSONDecodeError:
            continue
        found.append(line)
    return found


def test_a_calibration_survives_three_kills(tmp_path: Path) -> None:
    survives(tmp_path, 3, 1)


@pytest.mark.long
def test_a_calibration_survives_twenty_kills(tmp_path: Path) -> None:
    survives(tmp_path, 20, 2)

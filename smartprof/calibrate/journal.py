"""Samples on disk while a calibration runs, so that an interruption loses nothing.

One JSON object a line: the first names what is measured, each further one is a visit: its point and
samples, and places of outliers among them (which count). A line cut short by a crash is left out
when the file is read again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from smartprof.calibrate.plan import Point
from smartprof.calibrate.stopping import outliers
from smartprof.calibrate.visits import Visit
from smartprof.errors import SmartprofError
from smartprof.locks import one_at_a_time


class Journal:
    """Append-only record of visits beside the profile that is being made."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.header = dict(header)

    def read(self) -> list[Visit]:
        """Visits of an earlier run of the same calibration; empty if there is none.

        Raises SmartprofError if the file belongs to another calibration: nothing is overwritten.
        """
        text = self._text()
        if self._cut_short(text):
            return []
        first, *rest = text.split("\n")
        if _parsed(first) != self.header:
            raise SmartprofError(
                f"{self.path}: expected this calibration's unfinished run, got another's "
                "(model, device, mode or version differ): use --fresh to discard it"
            )
        return [_visit(x) for x in map(_parsed, rest) if x is not None]

    def start(self) -> None:
        """Begin a new file, unless one is there already."""
        text = self._text()
        if self._cut_short(text):
            self.discard()
            self._append(self.header)
        elif not text.endswith("\n"):
            # A crash has cut the last line: the next one must not continue it.
            self._write("\n")

    def add(self, visit: Visit) -> None:
        """Save a visit before the next one begins."""
        row: dict[str, Any] = {"point": asdict(visit.point), "samples": list(visit.samples)}
        marked = np.flatnonzero(outliers(visit.samples)).tolist()
        if marked:
            row["outliers"] = marked
        self._append(row)

    def second(self) -> Journal:
        """That of a second sweep over the same points."""
        return Journal(self._second_path, self.header)

    def discard(self) -> None:
        """Remove the files of all sweeps: their samples stand in a profile, or are not wanted."""
        self.path.unlink(missing_ok=True)
        self._second_path.unlink(missing_ok=True)

    @property
    def _second_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.2")

    def _text(self) -> str:
        """What the file holds; empty if there is none."""
        try:
            # Bytes that a power cut left behind make a line unreadable, not the file.
            return self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise SmartprofError(
                f"{self.path}: cannot read an unfinished run ({error.strerror}): remove it or "
                "choose another --out"
            ) from error

    def _cut_short(self, text: str) -> bool:
        """Whether not even the first line was written in full: nothing was measured then."""
        return "\n" not in text and json.dumps(self.header).startswith(text)

    def _append(self, row: Mapping[str, Any]) -> None:
        self._write(json.dumps(row) + "\n")

    def _write(self, text: str) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise SmartprofError(
                f"{self.path}: cannot save measurements ({error.strerror}): free some space or "
                "choose another --out, then run again to resume"
            ) from error


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Nobody else writes to the journal at `path` meanwhile, by a file beside it.

    Raises SmartprofError if a calibration that is still running does, or the folder is not usable.
    """
    lock = path.with_name(f"{path.name}.lock")
    busy = f"{path}: another calibration is writing it: wait for its end, or choose another --out"
    with ExitStack() as held:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(one_at_a_time(lock, busy))
        except OSError as error:
            raise SmartprofError(
                f"{lock}: cannot be made ({error.strerror}): free some space or choose another "
                "--out"
            ) from error
        try:
            yield
        finally:
            with suppress(OSError):  # where an open file cannot be removed
                lock.unlink()


def _visit(row: Mapping[str, Any]) -> Visit:
    return Visit(Point(**row["point"]), tuple(row["samples"]))


def _parsed(line: str) -> Any:
    """The line's value; None for an empty line or one that was cut short."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None

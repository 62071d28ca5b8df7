"""Noticing from one shape, timed over and over, that the device has changed its pace."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from smartprof.calibrate.visits import Visit

REMEMBERED = 9  # steady visits of the sentinel that say what is usual
FIRST = 3  # visits of the sentinel before anything else: their median is the usual pace at first
ACCEPTED = 4  # strange visits in a row after which, once patience is over, theirs is the usual pace


@dataclass
class PaceKeeper:
    """Tells from visits of the sentinel when to wait, and which visits to make again.

    tolerance: relative difference of the sentinel's median from the usual one that is noise.
    patience_seconds: of strange visits, in all, that are waited out. A faster pace is never waited
    out: what slowed the device before is gone.
    shifts: how often another pace had to be taken for the usual one. spells: how often it strayed.
    """

    tolerance: float
    patience_seconds: float
    shifts: int = 0
    spells: int = 0
    _usual: list[float] = field(default_factory=list)
    _strange: list[float] = field(default_factory=list)
    _suspects: list[Visit] = field(default_factory=list)

    @property
    def waiting(self) -> bool:
        """Whether the sentinel is to be timed until the usual pace is back."""
        return bool(self._strange)

    def note(self, visit: Visit) -> None:
        """A visit between two of the sentinel."""
        self._suspects.append(visit)

    def check(self, sentinel: Visit) -> list[Visit]:
        """A visit of the sentinel; returns the visits that must be made again, now.

        They are those since its last visit at the usual pace, if it has strayed in the meantime.
        """
        pace = statistics.median(sentinel.samples)
        if not self._steady(pace):
            self._be_patient(pace, sentinel)
            return []
        self._usual = [*self._usual, pace][-REMEMBERED:]
        again = self._suspects if self.waiting else []
        self._suspects, self._strange = [], []
        return again

    def _steady(self, pace: float) -> bool:
        if len(self._usual) < FIRST:
            return True
        return abs(pace / statistics.median(self._usual) - 1) <= self.tolerance

    def _be_patient(self, pace: float, sentinel: Visit) -> None:
        self.patience_seconds -= sum(sentinel.samples)
        self.spells += not self._strange
        self._strange.append(pace)
        self._suspects.append(sentinel)
        latest = self._strange[-ACCEPTED:]
        if len(latest) < ACCEPTED:
            return
        if self.patience_seconds <= 0 or max(latest) < statistics.median(self._usual):
            self._usual = latest
            self._strange, self._suspects = [], []
            self.shifts += 1

    def warnings(self) -> list[str]:
        """What a reader of the profile should know."""
        if self.shifts == 0:
            return []
        return [
            "the device changed its pace while measuring and did not come back: calibrate again "
            "when it is steady"
        ]

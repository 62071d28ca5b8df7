"""Noticing from one shape, timed over and over, that the device has changed its pace."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from smartprof.calibrate.plan import Point
from smartprof.calibrate.visits import Visit

REMEMBERED = 9  # steady visits of the sentinel that say what is usual
FIRST = 3  # visits of the sentinel before anything else: their median is the usual pace at first
ACCEPTED = 4  # strange visits in a row after which, once patience is over, theirs is the usual pace


@dataclass
class PaceKeeper:
    """Tells from visits of the sentinel when to wait, and which visits to make again.

    tolerance: relative difference of the sentinel's median from the usual one that is noise.
    patience_seconds: of slower visits, in all, that are waited out; then their pace is taken for
    the usual one until the better one is back. A faster pace that stays is usual at once.
    spells: how often the pace strayed. unmade: visits that were to be made again and were not, for
    want of time.
    """

    tolerance: float
    patience_seconds: float
    spells: int = 0
    unmade: int = 0
    _usual: list[float] = field(default_factory=list)
    _better: list[float] | None = None  # the usual pace before a slower one had to be accepted
    _strange: list[float] = field(default_factory=list)
    _suspects: list[Visit] = field(default_factory=list)  # since the last steady visit
    _made: list[Visit] = field(default_factory=list)  # at the usual pace, while it is not the best

    @property
    def waiting(self) -> bool:
        """Whether the sentinel is to be timed until the usual pace is back."""
        return bool(self._strange)

    def note(self, visit: Visit) -> None:
        """A visit between two of the sentinel."""
        self._suspects.append(visit)

    def check(self, sentinel: Visit) -> list[Visit]:
        """A visit of the sentinel; returns the visits that must be made again, now.

        They are those since its last visit at the usual pace, if it has strayed in the meantime,
        and all that were made at a pace that turns out to be slower than what is usual.
        """
        pace = statistics.median(sentinel.samples)
        if self._better is not None and self._near(pace, self._better):
            self._usual, self._better = self._better, None
            return self._made_again()
        if not self._near(pace, self._usual):
            return self._stray(pace, sentinel)
        self._usual = [*self._usual, pace][-REMEMBERED:]
        again = self._suspects if self.waiting else []
        self._made += [] if self.waiting else [*self._suspects, sentinel]
        self._suspects, self._strange = [], []
        return again

    def _near(self, pace: float, usual: list[float]) -> bool:
        if len(usual) < FIRST:
            return True
        return abs(pace / statistics.median(usual) - 1) <= self.tolerance

    def _stray(self, pace: float, sentinel: Visit) -> list[Visit]:
        self.patience_seconds -= sum(sentinel.samples)
        self.spells += not self._strange
        self._strange.append(pace)
        self._suspects.append(sentinel)
        latest = self._strange[-ACCEPTED:]
        if len(latest) < ACCEPTED:
            return []
        if max(latest) < statistics.median(self._usual):
            self._usual = latest
            return self._made_again()
        if self.patience_seconds <= 0:
            self._better = self._better or self._usual
            self._usual = latest
            self._made, self._suspects, self._strange = self._suspects, [], []
        return []

    def _made_again(self) -> list[Visit]:
        """All visits at a pace that was not the best, those of one point as one."""
        samples: dict[Point, tuple[float, ...]] = {}
        for visit in self._made + self._suspects:
            samples[visit.point] = samples.get(visit.point, ()) + visit.samples
        self._made, self._suspects, self._strange = [], [], []
        return [Visit(x, y) for x, y in samples.items()]

    def warnings(self) -> list[str]:
        """What a reader of the profile should know."""
        found = []
        if self._better is not None:
            found.append(
                "the device changed its pace while measuring and did not come back: calibrate "
                "again when it is steady"
            )
        if self.unmade:
            found.append(
                f"{self.unmade} visits beside a change of pace could not be made again in time: "
                "calibrate again when the device is steady, or with a larger --budget"
            )
        return found

"""What an NVIDIA device says of its clock around every visit: throttled ones do not count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from smartprof.device import NvmlReading

SUSTAINED = 0.5  # share of readings from which a power cap is the state of the device


@dataclass
class ClockWatch:
    """Counts what the readings around visits say. Where nothing can be read, nothing is throttled.

    read: the present state of the device.
    """

    read: Callable[[], NvmlReading]
    readings: int = 0
    capped: int = 0
    discarded: int = 0
    _last: NvmlReading | None = field(default=None, repr=False)

    def throttled(self) -> bool:
        """Whether heat holds the clock down now; to be asked at the end of every visit."""
        reading = self._last = self.read()
        self.readings += 1
        self.capped += bool(reading.power_capped)
        return bool(reading.thermally_throttled)

    def discard(self) -> None:
        """The samples of a visit were dropped."""
        self.discarded += 1

    def warnings(self) -> list[str]:
        """What a reader of the profile should know. Empty before anything was read."""
        if self._last is None:
            return []
        found = []
        if self._last.thermally_throttled:
            found.append("the GPU was throttled by heat: let it cool and calibrate again")
        elif self.discarded:
            found.append(f"{self.discarded} visits were throttled by heat and measured again")
        if self.capped > SUSTAINED * self.readings:
            found.append("the GPU ran at its power limit: timings are those of a capped clock")
        if self._last.clock_events is None and self._last.driver is not None:
            reason = self._last.missing.get("clock_events", "unknown")
            found.append(f"throttling could not be read from NVML ({reason})")
        return found

"""A device that nobody owns: known seconds behind the interface by which a sweep times points.

Its law, in seconds, for M tokens, batch B, context L:

    verify = staircase(M) + KV_SECONDS * max(0, B L - KV_FREE) + M L * SCORE_SECONDS

where the staircase is a roofline with its knee at `KNEE` times every factor of `FACTORS` that M has
reached: jumps up, and one fall. What a clock would show is that times noise of 1 %, times a slow
swing, times 1.08 in a busy spell, and now and then five times as much. Of passes, the floor alone
can wander, as memory does that others use.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from smartprof.calibrate.plan import Point

FLOOR_SECONDS = 0.020
KNEE = 96.0
SLOPE_BELOW, SLOPE_ABOVE = 2e-5, 2.2e-4
# From this many tokens on the pass takes so many times as long; below 1 it is a fall.
FACTORS = {17: 1.10, 44: 1.12, 65: 1.15, 105: 0.90, 129: 1.18, 193: 1.12}
TILES = (16,)  # what a calibration supposes of it, beside the multiples of 16
STEPS = tuple(x for x, y in FACTORS.items() if y > 1)
KV_SECONDS, KV_FREE = 1.5e-7, 4096
SCORE_SECONDS = 4e-9


@dataclass(frozen=True)
class Disturbance:
    """How measured seconds stray from the law.

    swing: amplitude of the slow drift, over `period` seconds; spell: start and end of a busy spell.
    floor_factor: of the floor in every second stretch of `floor_stretch` seconds.
    """

    noise: float = 0.01
    spike_chance: float = 0.02
    spike: float = 5.0
    swing: float = 0.01
    period: float = 120.0
    spell: tuple[float, float] = (20.0, 26.0)
    spell_factor: float = 1.08
    floor_factor: float = 1.0
    floor_stretch: float = 14.0


USUAL = Disturbance()
QUIET = Disturbance(0.0, 0.0, 1.0, 0.0, 1.0, (0.0, 0.0), 1.0)


def staircase(tokens: float) -> float:
    """Seconds of a pass of so many tokens at no context."""
    below = FLOOR_SECONDS + SLOPE_BELOW * min(tokens, KNEE)
    roofline = below + SLOPE_ABOVE * max(0.0, tokens - KNEE)
    return roofline * math.prod(y for x, y in FACTORS.items() if tokens >= x)


def truth(point: Point) -> float:
    """Seconds of a point by the law."""
    return _LAWS[point.quantity](point.batch, point.size, point.context)


def verify_seconds(batch: float, tokens: float, context: float) -> float:
    """Seconds of a verify pass by the law."""
    kv = KV_SECONDS * max(0.0, batch * context - KV_FREE)
    return staircase(tokens) + kv + SCORE_SECONDS * tokens * context


def overhead_seconds(batch: float, tokens: float, _: float) -> float:
    """Seconds of the rest of a round by the law."""
    return 5e-4 + 2e-5 * batch + 2e-6 * tokens


def true_free_tokens(surcharge: float, batch: int = 1, context: int = 64) -> int:
    """Largest size before the first whose seconds exceed 1 + surcharge of the smallest's."""
    limit = (1 + surcharge) * verify_seconds(batch, batch, context)
    return next(x for x in range(batch, 10_000) if verify_seconds(batch, x + 1, context) > limit)


_LAWS: dict[str, Callable[[int, int, int], float]] = {
    "verify": verify_seconds,
    "round_overhead": overhead_seconds,
    "plain_decode": lambda b, _, c: verify_seconds(b, b, c) + overhead_seconds(b, b, c),
    "draft_step": lambda b, w, c: 2e-3 + 1e-5 * w + 1e-5 * b + 1e-8 * b * c,
    "draft_catchup": lambda b, a, c: 2.5e-3 + 1.5e-5 * a + 1e-8 * b * c,
}


class SyntheticDevice:
    """Times points by the law, disturbed, on a clock of its own: nothing waits.

    It is all that a sweep asks of a device (`smartprof.calibrate.schedule.Timings`). Two of one
    seed answer alike.
    """

    goal = 0.005
    warm_again = False

    def __init__(self, seed: int = 0, disturbance: Disturbance = USUAL) -> None:
        self.disturbance = disturbance
        self.clock = 0.0
        self.runs = 0
        self._draw = np.random.default_rng(seed)

    def now(self) -> float:
        """Seconds since the device was made."""
        return self.clock

    def sampler(self, point: Point) -> Callable[[], float]:
        """What runs the point once, moves the clock on, and returns the seconds it took."""
        return lambda: self._run(truth(point))

    def _run(self, seconds: float) -> float:
        law = self.disturbance
        slow_floor = self.clock % (2 * law.floor_stretch) >= law.floor_stretch
        floor = min(seconds, FLOOR_SECONDS) * (law.floor_factor - 1) * slow_floor
        taken = (seconds + floor) * (
            1 + law.swing * math.sin(2 * math.pi * self.clock / law.period)
        )
        if law.spell[0] <= self.clock < law.spell[1]:
            taken *= law.spell_factor
        taken *= math.exp(law.noise * self._draw.normal())
        if self._draw.random() < law.spike_chance:
            taken *= law.spike
        self.clock += taken
        self.runs += 1
        return taken

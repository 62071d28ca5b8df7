"""Which points of a profile to measure again, and what the new timings say. Knows no clocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smartprof.calibrate.plan import Point
from smartprof.errors import InputError
from smartprof.profile.schema import Anchor, Profile
from smartprof.profile.verdicts import Verdict, judge
from smartprof.stats import Summary

VERIFY_SPOTS = 4  # beside one of plain decoding, which every speedup is a ratio to


@dataclass(frozen=True)
class Spot:
    """A measured point of a profile: what to time, and what it took; half_width: relative."""

    point: Point
    seconds: float
    half_width: float


@dataclass(frozen=True)
class Recheck:
    """A point timed anew."""

    spot: Spot
    now: Summary

    @property
    def ratio(self) -> float:
        """Seconds now over those of the profile."""
        return self.now.median / self.spot.seconds

    @property
    def half_width(self) -> float:
        """Relative, of the timing now."""
        return self.now.ci_half_width / self.now.median

    @property
    def verdict(self) -> Verdict:
        """What the device is now, against the profile."""
        return judge(self.ratio, self.spot.half_width, self.half_width)


@dataclass(frozen=True)
class Overall:
    """All points together: median ratio, and medians of both half-widths."""

    ratio: float
    half_width: float
    now_half_width: float

    @property
    def verdict(self) -> Verdict:
        """As of one point."""
        return judge(self.ratio, self.half_width, self.now_half_width)


def choose_spots(profile: Profile) -> list[Spot]:
    """Verify passes spread over the domain, and plain decoding at the largest batch.

    The smallest pass first, then always the one that is farthest from all that were chosen, by
    logarithms of batch, tokens and context. Raises InputError where nothing was measured.
    """
    anchors = sorted(profile.verify.anchors, key=lambda x: (x.batch, x.context, x.size))
    plain = sorted(profile.plain_decode.anchors, key=lambda x: (-x.size, x.context))
    if not anchors:
        raise InputError(
            f"expected a profile with measured points to time again, got one that is "
            f"{profile.provenance.kind}: calibrate on this device"
        )
    places = np.array([_coordinates(x) for x in anchors])
    chosen = [0]
    while len(chosen) < min(VERIFY_SPOTS, len(anchors)):
        distances = np.linalg.norm(places[:, None] - places[chosen], axis=2).min(axis=1)
        chosen.append(int(distances.argmax()))
    spots = [_spot("verify", anchors[x]) for x in chosen]
    return spots + [_spot("plain_decode", x) for x in plain[:1]]


def overall(rechecks: Sequence[Recheck]) -> Overall:
    """Medians over the points."""
    values = [(x.ratio, x.spot.half_width, x.half_width) for x in rechecks]
    return Overall(*np.median(np.array(values), axis=0).tolist())


def _coordinates(anchor: Anchor) -> tuple[float, float, float]:
    batch, context = anchor.batch or 1, anchor.context or 0
    return float(np.log2(batch)), float(np.log2(anchor.size)), float(np.log2(context + 1))


def _spot(quantity: str, anchor: Anchor) -> Spot:
    batch = anchor.size if anchor.batch is None else anchor.batch
    point = Point(quantity, batch, anchor.size, anchor.context or 0)
    return Spot(point, anchor.seconds, anchor.ci_half_width / anchor.seconds)

"""How well probabilities hold: reliability by bins, expected calibration error, counts by place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smartprof.trees.acceptance import Labelled

BINS = 15  # as Guo et al. have it


@dataclass(frozen=True)
class ReliabilityBin:
    """One line of a reliability table: mean probability said and share that came true."""

    low: float
    high: float
    count: int
    mean_probability: float
    share_right: float


@dataclass(frozen=True, eq=False)
class Reliability:
    """Sums over events by equal bins of the probability that was given to them.

    count: int64 [bins]. probability, right: float64 [bins], sums of what was said and came true.
    """

    count: NDArray[np.int64]
    probability: NDArray[np.float64]
    right: NDArray[np.float64]

    @classmethod
    def of(cls, probability: NDArray[np.float64], right: NDArray[np.bool_]) -> Reliability:
        """From probabilities float64 [k] in [0, 1] and what came true, bool [k]; k may be 0."""
        place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
        return cls(
            np.bincount(place, minlength=BINS),
            np.bincount(place, probability, BINS).astype(np.float64),
            np.bincount(place, right, BINS).astype(np.float64),
        )

    def __add__(self, other: Reliability) -> Reliability:
        """All events of both."""
        return Reliability(
            self.count + other.count,
            self.probability + other.probability,
            self.right + other.right,
        )

    @property
    def size(self) -> int:
        """Events."""
        return int(self.count.sum())

    @property
    def error(self) -> float | None:
        """Expected calibration error, in [0, 1]; None without events.

        ``sum over bins of count / size * |mean probability - share right|``: Guo et al., "On
        Calibration of Modern Neural Networks", arXiv 1706.04599.
        """
        if not self.size:
            return None
        return float(np.abs(self.probability - self.right).sum() / self.size)

    @property
    def noise(self) -> float | None:
        """Error that right probabilities would show with as many independent events, on average.

        ``sqrt(2 / pi) * sum over bins of sqrt(count * mean * (1 - mean)) / size``; None without
        events. An error of this size says nothing against the probabilities.
        """
        if not self.size:
            return None
        mean = self.probability / np.maximum(self.count, 1)
        spread = np.sqrt(self.count * mean * (1 - mean)).sum()
        return float(np.sqrt(2 / np.pi) * spread / self.size)

    @property
    def bins(self) -> list[ReliabilityBin]:
        """The bins that have events."""
        return [
            ReliabilityBin(
                low=x / BINS,
                high=(x + 1) / BINS,
                count=int(self.count[x]),
                mean_probability=float(self.probability[x] / self.count[x]),
                share_right=float(self.right[x] / self.count[x]),
            )
            for x in self.count.nonzero()[0].tolist()
        ]


NO_EVENTS = Reliability.of(np.zeros(0), np.zeros(0, np.bool_))


@dataclass(frozen=True)
class PlaceCount:
    """Proposals of one depth (from 1) and rank (from 1) below the target's path; those right."""

    depth: int
    rank: int
    proposed: int
    right: int


def count_places(seen: Labelled) -> list[PlaceCount]:
    """How often each depth and rank was proposed and right, in this order."""
    places = np.stack([seen.proposals.depth, seen.proposals.rank + 1], axis=1)
    found, place = np.unique(places, axis=0, return_inverse=True)
    place = place.ravel()
    proposed = np.bincount(place, minlength=len(found))
    right = np.bincount(place, seen.right, len(found)).astype(np.int64)
    rows = zip(found.tolist(), proposed.tolist(), right.tolist(), strict=True)
    return [PlaceCount(depth, rank, x, y) for (depth, rank), x, y in rows]


@dataclass(frozen=True, eq=False)
class SourceRecord:
    """What is known of how one source's probabilities held.

    labelled: proposals as the source stated them, empty if they were not kept.
    selected: path probabilities of the verified nodes, as decisions went by them, and which of
    them the target accepted.
    """

    labelled: Labelled
    selected: Reliability


@dataclass(frozen=True, eq=False)
class AcceptanceRecord:
    """What a drafter leaves behind after a run.

    sources: by name. statistics: what it counted to correct its probabilities, float64 [2, k] each.
    """

    sources: Mapping[str, SourceRecord]
    statistics: Mapping[str, NDArray[np.float64]]

    @property
    def selected(self) -> Reliability:
        """Of all sources."""
        return sum((x.selected for x in self.sources.values()), NO_EVENTS)

"""Which requests share a call of attention, by what calls of each kind cost. Knows no tensors.

A call is padded to the longest and widest of its requests. One call for all wastes reading keys
that nobody sees; a call for each costs calls. Between them: requests of similar length in pairs,
since any two rows of a cache can be viewed as one tensor without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Groups = Sequence[NDArray[np.int64]]


@dataclass(frozen=True)
class CallCosts:
    """Seconds of attention calls over rows of a kind: per call, key slot, and token and key."""

    call_seconds: float
    slot_seconds: float
    pair_seconds: float

    def seconds(self, requests: int, width: int, extent: int) -> float:
        """One call over so many requests of `width` tokens that see `extent` slots each."""
        return self.call_seconds + requests * extent * (
            self.slot_seconds + width * self.pair_seconds
        )


@dataclass(frozen=True)
class AttentionCosts:
    """Calls over one request, whose few heads may leave a core idle, and over several."""

    alone: CallCosts
    together: CallCosts

    def seconds(
        self, groups: Groups, counts: NDArray[np.int64], extent: NDArray[np.int64]
    ) -> float:
        """All calls of one layer; counts, extent: int64 [R], tokens and slots by request."""
        return sum(
            (self.alone if len(x) == 1 else self.together).seconds(
                len(x), int(counts[x].max()), int(extent[x].max())
            )
            for x in groups
        )


def group_requests(
    counts: NDArray[np.int64], extent: NDArray[np.int64], costs: AttentionCosts | None
) -> Groups:
    """The cheapest of: one call for all, pairs of similar extent, a call each.

    counts, extent: int64 [R]. Returns the requests of each call, ascending. A request without
    tokens is in no call, unless all share one. Without costs, all share one.
    """
    together = [np.arange(len(counts))]
    if costs is None or len(counts) == 1:
        return together
    order = extent.argsort(kind="stable")
    order = order[counts[order] > 0]
    pairs = [np.sort(order[x : x + 2]) for x in range(0, len(order), 2)]
    each = [order[x : x + 1] for x in range(len(order))]
    return min((together, pairs, each), key=lambda x: costs.seconds(x, counts, extent))

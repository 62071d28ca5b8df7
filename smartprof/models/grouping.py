"""Which requests share a call of attention, by what calls of each kind cost. Knows no tensors.

Most calls are padded to the longest and widest of their requests. One call for all wastes reading
keys that nobody sees; a call for each costs calls. Between them: requests of similar length in
pairs, since any two rows of a cache can be viewed as one tensor without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Groups = Sequence[Ints]


@dataclass(frozen=True)
class CallCosts:
    """Seconds of attention calls over rows of a kind: per call, key slot, and token and key."""

    call_seconds: float
    slot_seconds: float
    pair_seconds: float

    def seconds(self, requests: Ints, width: Ints, extent: Ints) -> Floats:
        """Calls over so many requests of `width` tokens that see `extent` slots each, int64 [k]."""
        each = self.slot_seconds + width * self.pair_seconds
        return self.call_seconds + requests * extent * each


@dataclass(frozen=True)
class AttentionCosts:
    """Calls over one request, whose few heads may leave a core idle, and over several.

    ragged: of a call that pads nothing, over any requests; None where there is none.
    """

    alone: CallCosts
    together: CallCosts
    ragged: CallCosts | None = None

    def seconds(self, groups: Groups, counts: Ints, extent: Ints) -> float:
        """All calls of one layer; counts, extent: int64 [R], tokens and slots by request."""
        order, sizes = np.concatenate(groups), np.array([len(x) for x in groups])
        start = sizes.cumsum() - sizes
        calls = (
            sizes,
            np.maximum.reduceat(counts[order], start),
            np.maximum.reduceat(extent[order], start),
        )
        each = np.where(sizes == 1, self.alone.seconds(*calls), self.together.seconds(*calls))
        return float(each.sum())

    def prefer_ragged(self, groups: Groups, counts: Ints, extent: Ints) -> bool:
        """Whether one call that pads nothing is cheaper than those of these groups."""
        if self.ragged is None:
            return False
        each = extent * (self.ragged.slot_seconds + counts * self.ragged.pair_seconds)
        seconds = self.ragged.call_seconds + float(each[counts > 0].sum())
        return seconds <= self.seconds(groups, counts, extent)


def group_requests(counts: Ints, extent: Ints, costs: AttentionCosts | None) -> Groups:
    """The cheapest of: one call for all, a call each, and pairs of similar extent or width.

    counts, extent: int64 [R], tokens and slots by request. Returns the requests of each call,
    ascending. A request without tokens is in no call, unless all share one. Without costs, all
    share one.
    """
    together = [np.arange(len(counts))]
    if costs is None or len(counts) == 1:
        return together
    present = counts.nonzero()[0]
    each = [present[x : x + 1] for x in range(len(present))]
    pairs = [_pairs(present, x) for x in (extent, counts)]
    return min((together, each, *pairs), key=lambda x: costs.seconds(x, counts, extent))


def _pairs(requests: Ints, size: Ints) -> Groups:
    """Requests [k] in twos, those of similar size [R] together; one is left alone if k is odd."""
    order = requests[size[requests].argsort(kind="stable")]
    return [np.sort(order[x : x + 2]) for x in range(0, len(order), 2)]

"""Rankings that put parents before children: among equal values the earlier index comes first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def largest(value: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """int64 [min(most, n)]: indices of the largest, falling; of equal values the earlier first.

    value: float64 [n]. As a stable sort of all would begin, but sorts no more than it has to.
    """
    if most >= len(value):
        return (-value).argsort(kind="stable")
    if most <= 0:
        return np.zeros(0, np.int64)
    bound = np.partition(value, -most)[-most]
    high = (value >= bound).nonzero()[0]  # more than `most` where values equal the bound
    return high[(-value[high]).argsort(kind="stable")[:most]]


def rank_within(group: NDArray[np.integer], value: NDArray[np.float64]) -> NDArray[np.int64]:
    """int64 [n]: how many members of the same group come before each; larger values first.

    group: int [n]. value: float64 [n]. Among equal values the earlier index comes first, so a
    parent ranks before a child of the same path probability.
    """
    order = np.lexsort((-value, group))  # stable
    ordered = group[order]
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.searchsorted(ordered, ordered)
    return rank


def before_within(group: NDArray[np.integer], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [n]: sum of the values that come before each in its group.

    group: int [n], sorted. value: float64 [n].
    """
    before = value.cumsum() - value
    return before - before[np.searchsorted(group, group)]

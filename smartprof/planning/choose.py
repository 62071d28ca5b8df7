"""Which setting each batch gets, from the rates of all settings at all batches.

Pure arithmetic over `rates`, float64 [batches, settings]: tokens per second, -inf where a setting
cannot be priced. Batches ascend; of equal settings the first wins. Nothing is assumed about how
rates change from batch to batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rates = NDArray[np.float64]
Choice = NDArray[np.int64]  # [batches], the setting of each


def fastest(rates: Rates) -> Choice:
    """Each batch's fastest setting."""
    return rates.argmax(axis=1)


def reluctant(rates: Rates, min_gain: float) -> Choice:
    """The fastest, but a batch keeps the next smaller batch's setting unless leaving it pays.

    min_gain: by how much of the kept setting's rate the fastest must be better; 0 keeps nothing
    but equals.
    """
    chosen = fastest(rates)
    for batch in range(1, len(rates)):
        kept, best = chosen[batch - 1], chosen[batch]
        if rates[batch, best] < (1 + min_gain) * rates[batch, kept]:
            chosen[batch] = kept
    return chosen


def in_ranges(rates: Rates, ranges: int) -> Choice:
    """The best choice that is constant on at most `ranges` ranges of neighbouring batches.

    So it has at most so many distinct settings. Best by the geometric mean of the rates, every
    batch counting the same. An exact dynamic programme: the best sum of logarithms with r ranges
    that ends on setting s is that of the batch before with s, or with r - 1 and any setting.
    """
    with np.errstate(divide="ignore"):
        score = np.log(np.maximum(rates, 0.0))
    batches, settings = score.shape
    value = np.full((ranges, settings), -np.inf)
    value[0] = score[0]
    origins = np.empty((batches, ranges, settings), np.int64)
    for batch in range(1, batches):
        before, leader = np.full(ranges, -np.inf), np.zeros(ranges, np.int64)
        before[1:], leader[1:] = value[:-1].max(axis=1), value[:-1].argmax(axis=1)
        switched = before[:, None] > value
        origins[batch] = np.where(switched, -1 - leader[:, None], np.arange(settings))
        value = np.where(switched, before[:, None], value) + score[batch]
    return _walk_back(value, origins)


def _walk_back(value: Rates, origins: NDArray[np.int64]) -> Choice:
    """origins: [batches, ranges, settings], the setting of the batch before; if another range
    ended there, -1 minus that setting.
    """
    used, setting = np.unravel_index(int(value.argmax()), value.shape)
    chosen = np.empty(len(origins), np.int64)
    chosen[-1] = setting
    for batch in range(len(origins) - 1, 0, -1):
        origin = origins[batch, used, chosen[batch]]
        used -= origin < 0
        chosen[batch - 1] = origin if origin >= 0 else -1 - origin
    return chosen

"""The pad-up envelope: a verify pass may run more tokens than it needs when that is cheaper."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smartprof.profile.axis import FloatArray


@dataclass(frozen=True)
class Envelope:
    """C~(n) for consecutive n: tokens needed [k], seconds [k], tokens to run [k] (pad_to >= n)."""

    tokens: NDArray[np.int64]
    seconds: FloatArray
    pad_to: NDArray[np.int64]


def pad_up(
    tokens: NDArray[np.int64],
    seconds: FloatArray,
    half_widths: FloatArray,
    count: int,
    longest: int,
) -> Envelope:
    """C~(n) = min over m >= n of C(m), over significant dips only, for the first `count` tokens.

    tokens: consecutive [k], k >= count; seconds: C [k]; half_widths: 95 % half-widths of C [k].
    longest: no m beyond this counts but n itself.
    A dip from n to m is significant if the two intervals do not overlap; otherwise noise alone
    would make padded passes look cheaper than they are. Among equally cheap m the smallest counts.
    """
    lower, upper = seconds - half_widths, seconds + half_widths
    cheapest, pad_to = seconds[:count].copy(), tokens[:count].copy()
    highest_before = np.maximum.accumulate(lower)[:-1]
    dips = 1 + np.flatnonzero((upper[1:] < highest_before) & (tokens[1:] <= longest))
    # From the dearest dip to the cheapest: what a later one overwrites it may overwrite.
    for dip in dips[np.lexsort((-dips, -seconds[dips]))]:
        gains = lower[: min(dip, count)] > upper[dip]
        cheapest[: len(gains)][gains] = seconds[dip]
        pad_to[: len(gains)][gains] = tokens[dip]
    needed = tokens[:count].copy()
    for values in (needed, cheapest, pad_to):
        values.flags.writeable = False  # envelopes are shared between rounds
    return Envelope(needed, cheapest, pad_to)

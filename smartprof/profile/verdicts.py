"""Whether two timings differ, by their intervals: SAME, FAST, SLOW or AMBIGUOUS.

The idea is that of nvbench's comparison of benchmark files (https://github.com/NVIDIA/nvbench,
python/scripts): a clear gap between two intervals is a difference; timings are the same only if
their centres agree and both were measured well; everything between is left open instead of being
called equal. There centres must agree to 0.5 %; here each median must lie in the other's interval,
and no interval is taken for narrower than that.
"""

from __future__ import annotations

from typing import Literal

Verdict = Literal["SAME", "FAST", "SLOW", "AMBIGUOUS"]
LEAST_HALF_WIDTH = 0.005  # smaller differences do not matter, however well they were measured
WIDEST_SAME = 0.05  # of half-widths with which two timings may be called the same


def judge(ratio: float, half_width: float, other_half_width: float) -> Verdict:
    """What a ratio of seconds, other / one, says of the other.

    half_width, other_half_width: 95 % half-widths of the two, each as a share of its own seconds.
    FAST or SLOW: the intervals are apart. SAME: each value lies in the other's interval, and
    neither is wider than `WIDEST_SAME`. AMBIGUOUS: neither is known.
    """
    width = max(half_width, LEAST_HALF_WIDTH)
    other = max(other_half_width, LEAST_HALF_WIDTH)
    if ratio * (1 + other) < 1 - width:
        return "FAST"
    if ratio * (1 - other) > 1 + width:
        return "SLOW"
    within = abs(ratio - 1) <= width and abs(ratio - 1) <= ratio * other
    return "SAME" if within and max(width, other) <= WIDEST_SAME else "AMBIGUOUS"

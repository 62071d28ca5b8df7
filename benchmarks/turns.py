"""Timing what is compared in turns, so that all of it sees the same minutes of the machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

Runs = Mapping[str, Callable[[], object]]


def in_turns(runs: Runs, repeats: int) -> dict[str, list[float]]:
    """Seconds of each run, all of them once per turn, after one turn to warm up."""
    seconds: dict[str, list[float]] = {x: [] for x in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio_text(slower: Sequence[float], faster: Sequence[float]) -> str:
    """Ratio of medians with the spread of the paired ratios."""
    paired = [x / y for x, y in zip(slower, faster, strict=True)]
    middle = statistics.median(slower) / statistics.median(faster)
    return f"{middle:.2f} ({min(paired):.2f} to {max(paired):.2f})"

"""Timing one shape: warm up, repeat, stop when the interval is small or the time is spent."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

MIN_SAMPLES = 2  # of a visit; a point gets several visits
MAX_SAMPLES = 200


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that a clock read afterwards covers the work before it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_call(run: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds of one call, work on the device included."""
    synchronise(device)
    start = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - start


def visit(sample: Callable[[], float], seconds: float, warm_up: int) -> list[float]:
    """Call `sample` (which returns the seconds it measured) after a warm-up, for about `seconds`.

    At least `MIN_SAMPLES` calls, however long they take, and at most `MAX_SAMPLES`.
    """
    for _ in range(warm_up):
        sample()
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < MIN_SAMPLES or (time.perf_counter() < end and len(samples) < MAX_SAMPLES):
        samples.append(sample())
    return samples

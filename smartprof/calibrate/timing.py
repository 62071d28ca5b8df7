"""Seconds of one call on a device."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that a clock read afterwards covers the work before it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_call(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, work on the device included; by the device's own clock if it has one."""
    if device.type == "cuda":
        return _between_events(run, device)
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e9


def _between_events(run: Callable[[], object], device: torch.device) -> float:
    """Between two events of the stream on which `run` replays or launches its work."""
    with torch.cuda.device(device):
        torch.cuda.synchronize()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

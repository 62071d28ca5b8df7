"""In which way each product of a model runs fastest here: measured on its own weights.

It depends on processor, shape and token count, and on where the weights lie: from one pass to the
next all others are read, so that a cache holds none. So it is measured over the weights in the
order of a pass.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import torch

from smartprof.models.kernels import FULL_TILE, PROBED, Kernels, Size, Way, choose_kernels, ways_at
from smartprof.models.packing import Linear, ways_here, weight_bytes
from smartprof.stats import undisturbed

REPEATS = 3
SWEEP_BYTES = 1 << 30  # weights that one sweep reads at most; a larger model is probed in part


def measure_kernels(linears: Sequence[Linear]) -> dict[Size, Kernels]:
    """How each shape runs fastest by token count; what is probed is laid out in every way."""
    if not linears:
        return {}
    measured = _measure(linears, lay_out_probed(linears))
    return {size: choose_kernels(seconds) for size, seconds in measured.items()}


def lay_out_probed(linears: Sequence[Linear]) -> list[Way]:
    """Lay what is probed out in every way; returns further ways that give the right products."""
    probed = _probed(linears, 1)
    for linear in probed:
        linear.lay_out("packed")
    return [way for way in ways_here(linears) if all([x.lay_out(way) for x in probed])]


def _measure(
    linears: Sequence[Linear], further: Sequence[Way]
) -> dict[Size, dict[int, dict[Way, float]]]:
    """Seconds of a product by shape, count and way, in interleaved sweeps."""
    found: dict[Size, dict[int, dict[Way, float]]] = {x.size: {} for x in linears}
    for tokens in PROBED:
        probed = _probed(linears, tokens)
        ways = ways_at(tokens, further)
        sweeps: dict[Way, list[dict[Size, list[float]]]] = {way: [] for way in ways}
        for repeat in range(REPEATS + 1):
            for way in ways:
                seconds = _sweep(probed, tokens, way)
                if repeat:  # the first run of a shape also compiles it
                    sweeps[way].append(seconds)
        for size, by_count in found.items():
            by_count[tokens] = {
                way: undisturbed([x for y in taken for x in y[size]])
                for way, taken in sweeps.items()
            }
    return found


def _probed(linears: Sequence[Linear], tokens: int) -> list[Linear]:
    """Layers of each shape to sweep over, in order: of large counts few, at least one.

    A product of many tokens is bound by arithmetic, and takes too long to repeat over and over.
    """
    share = min(1.0, SWEEP_BYTES / weight_bytes(linears)) / max(1, tokens // FULL_TILE)
    most = {size: max(1, int(share * y)) for size, y in Counter(x.size for x in linears).items()}
    seen: Counter[Size] = Counter()
    probed = []
    for linear in linears:
        seen[linear.size] += 1
        if seen[linear.size] <= most[linear.size]:
            probed.append(linear)
    return probed


def _sweep(linears: Sequence[Linear], tokens: int, way: Way) -> dict[Size, list[float]]:
    """Seconds of each product, one after the other, by shape."""
    inputs = {x.size[1]: torch.ones(tokens, x.size[1]) for x in linears}
    seconds: dict[Size, list[float]] = {x.size: [] for x in linears}
    start = time.perf_counter()
    for linear in linears:
        linear.run(inputs[linear.size[1]], way)
        end = time.perf_counter()
        seconds[linear.size].append(end - start)
        start = end
    return seconds

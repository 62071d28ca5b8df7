"""What this CPU keeps up: bytes read per second, and FLOP/s of a large float32 product.

The two figures that `smartprof estimate --flops --bandwidth` takes for a device in no table:

    python benchmarks/machine_peaks.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from smartprof.device import set_threads

REPEATS = 15
READ_ELEMENTS = (16_384, 16_384)  # 1 GiB, more than any cache holds
SIDE = 2048


def best_seconds(run: Callable[[], object]) -> float:
    """Of `REPEATS` runs the fastest: a peak is what was reached, not what is usual."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def read_bandwidth() -> float:
    """Bytes per second of a matrix read once, for its product with a vector."""
    matrix, vector = torch.rand(READ_ELEMENTS), torch.rand(READ_ELEMENTS[1])
    return matrix.numel() * matrix.itemsize / best_seconds(lambda: matrix @ vector)


def product_flops() -> float:
    """FLOP/s of a square product."""
    one, other = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    return 2.0 * SIDE**3 / best_seconds(lambda: one @ other)


def main() -> None:
    """Measure both and print the options."""
    threads = set_threads()
    bandwidth, flops = read_bandwidth(), product_flops()
    print(f"{threads} threads: --flops {flops:.3g} --bandwidth {bandwidth:.3g}")


if __name__ == "__main__":
    main()

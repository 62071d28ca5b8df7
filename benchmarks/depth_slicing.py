"""Depth slicing against the full stack, on a model that fits: extrapolated over measured seconds.

    python benchmarks/depth_slicing.py [--target smollm2] [--layers 5] [--rounds 9]

Every round times each pass on the full model, on 2k and on k of its layers, in turns; figures are
medians over the rounds. The bar is 5 % for the median over the passes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

from smartprof.calibrate.plan import Point, slots_needed
from smartprof.calibrate.slicing import extrapolated, halves
from smartprof.calibrate.sweep import Bench, sampler
from smartprof.decode.target import Target
from smartprof.device import resolve_device
from smartprof.drafters.ngram import NgramDrafter
from smartprof.models.loading import load_model
from smartprof.models.transformer import Transformer

PASSES = (
    *(Point("verify", 1, x, 64) for x in (1, 4, 16, 64)),
    *(Point("verify", 4, x, 512) for x in (4, 16, 64)),
    *(Point("verify", 8, x, 256) for x in (8, 32)),
)
CAPACITY = max(slots_needed(x) for x in PASSES)


def bench(model: Transformer) -> Bench:
    """A target around this model with keys and values as they come in use."""
    target = Target(model, max(x.batch for x in PASSES), CAPACITY)
    target.cache.data.normal_()
    return Bench(target, NgramDrafter(), [])


def timed(samplers: list[Callable[[], float]], rounds: int) -> list[list[float]]:
    """Seconds of each, in turns; the first round warms up."""
    found = [[x() for x in samplers] for _ in range(rounds + 1)]
    return found[1:]


def main() -> None:
    """Time all passes and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="smollm2")
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    model = load_model(chosen.target, resolve_device("auto")).transformer
    deep, shallow = halves(model, chosen.layers)
    missing = (model.shape.layers - 2 * chosen.layers) / chosen.layers
    benches = [bench(x) for x in (model, deep, shallow)]
    print(f"{chosen.layers} and {2 * chosen.layers} of {model.shape.layers} layers")
    print("batch tokens context    full ms  sliced ms   error")
    errors = []
    for point in PASSES:
        rounds = timed([sampler(x, point) for x in benches], chosen.rounds)
        full = statistics.median(x[0] for x in rounds)
        sliced = statistics.median(extrapolated(x[2], x[1], missing) for x in rounds)
        errors.append(100 * (sliced / full - 1))
        print(
            f"{point.batch:5} {point.size:6} {point.context:7} {1e3 * full:10.1f} "
            f"{1e3 * sliced:10.1f} {errors[-1]:6.1f} %"
        )
    sizes = [abs(x) for x in errors]
    print(f"median {statistics.median(sizes):.1f} %, largest {max(sizes):.1f} %")


if __name__ == "__main__":
    main()

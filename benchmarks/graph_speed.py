"""What captured passes gain over eager ones on this device, and how near the floor they come.

    python benchmarks/graph_speed.py [--gpu auto] [--target shape:Llama-3.1-8B] [--context 512]

Passes of 1 to 64 tokens at batch 1, then whole rounds of plain and of speculative decoding, eager
against captured in turns: ratios with their spread, bytes of weights and cache per second beside
the measured bandwidth, the floor (the time to read those bytes once) over the time taken, the
largest difference of logits, and the share of a round that is neither draft nor verify. Without a
GPU the passes are static but not recorded: that shows that all else works, and nothing about speed.

Bars on a GPU: plain decoding at batch 1 at 0.85 of the floor, at most 10 % of a round outside draft
and verify.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from turns import in_turns, ratio_text

from smartprof.calibrate.synthetic import EvenDrafter, Unpriced, heaps
from smartprof.decode.records import RoundRecord
from smartprof.decode.requests import Progress, Request
from smartprof.decode.rounds import Decoder
from smartprof.decode.target import Target
from smartprof.device import resolve_device
from smartprof.errors import DeviceError
from smartprof.models.buckets import aligned_capacity
from smartprof.models.execution import EAGER, Execution, open_execution
from smartprof.models.loading import LoadedModel, load_model
from smartprof.models.runners import CapturePool
from smartprof.policies.base import NO_NODES, Cut, Policy, Round
from smartprof.policies.plain import Plain
from smartprof.trees.packed import PackedTrees, pack

SIZES = (1, 2, 4, 8, 16, 32, 64)
ROUND_TOKENS = 16  # of the speculative rounds
READ_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}
BAR_FLOOR, BAR_REST = 0.85, 0.10


class WholeForest(Policy):
    """Expands the roots once and verifies all there is: a round of known size."""

    name = "whole-forest"

    def grow(self, round: Round) -> NDArray[np.int64]:
        """The roots, once."""
        return round.forest.frontier if round.forest.size == round.forest.num_requests else NO_NODES

    def cut(self, round: Round) -> Cut:
        """Every node."""
        nodes = np.arange(round.forest.num_requests, round.forest.size)
        return Cut(nodes, round.forest.size)


def opened(model: LoadedModel) -> Execution:
    """Graphs on a GPU; on a CPU the same passes, not recorded."""
    if model.transformer.device.type == "cuda":
        execution = open_execution("cuda_graph", model.transformer, print)
        if execution.name != "cuda_graph":
            raise DeviceError("expected a GPU that captures graphs: see the line above")
        return execution
    print("no GPU: static passes that are not recorded; ratios say nothing about graphs")
    return Execution(CapturePool(lambda run: run, print))


def targets(model: LoadedModel, context: int) -> dict[str, Target]:
    """An eager and a captured target with the same numbers in their caches."""
    made = {}
    capacity = aligned_capacity(context + 2 * max(SIZES))  # the same for both, so that numbers are
    for name, execution in (("eager", EAGER), ("graph", opened(model))):
        torch.manual_seed(0)
        target = Target(model.transformer, 1, capacity, (), execution)
        target.cache.data.normal_()
        made[name] = target
    return made


def synthetic_trees(tokens: int, vocab: int) -> PackedTrees:
    """One tree of so many tokens."""
    return pack(heaps(np.array([tokens]), vocab), np.arange(1, tokens))


def bandwidth(model: LoadedModel, repeats: int) -> float:
    """Bytes per second, the better of reading and of copying a buffer that no cache holds."""
    device = model.transformer.device
    source = torch.ones(READ_BYTES[device.type] // 4, device=device)
    copy = torch.empty_like(source)

    def waited(run: Callable[[], object]) -> Callable[[], object]:
        def both() -> None:
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return both

    seconds = in_turns(
        {"read": waited(source.sum), "copy": waited(lambda: copy.copy_(source))}, repeats
    )
    size = READ_BYTES[device.type]
    read = size / statistics.median(seconds["read"])
    copied = 2 * size / statistics.median(seconds["copy"])
    print(f"bandwidth: read {read / 1e9:.1f} GB/s, copy (both ways) {copied / 1e9:.1f} GB/s")
    return max(read, copied)


def passes(
    model: LoadedModel, made: dict[str, Target], context: int, repeats: int, rate: float
) -> None:
    """Verify passes at batch 1."""
    shape, element = model.source.shape, model.transformer.dtype.itemsize
    size = shape.weight_bytes(element) + context * shape.kv_bytes_per_token(element)
    print(f"weights and cache {size / 1e6:.1f} MB: floor {1e3 * size / rate:.3f} ms")
    for tokens in SIZES:
        trees = synthetic_trees(tokens, shape.vocab)
        seconds = in_turns(
            {
                name: lambda x=x, trees=trees, n=tokens: x.verify(trees, np.array([context]), n)
                for name, x in made.items()
            },
            repeats,
        )
        middle = {x: statistics.median(y) for x, y in seconds.items()}
        floor = size / rate / middle["graph"]
        print(
            f"pass of {tokens}: eager {1e3 * middle['eager']:.3f} ms, graph "
            f"{1e3 * middle['graph']:.3f} ms, eager over graph "
            f"{ratio_text(seconds['eager'], seconds['graph'])}; {size / middle['graph'] / 1e9:.1f} "
            f"GB/s, {floor:.2f} of the floor; {difference(made, trees, context)}"
        )
        if tokens == 1:
            bar = f"at least {BAR_FLOOR} of the floor"
            verdict(model, bar, floor >= BAR_FLOOR)


def difference(made: dict[str, Target], trees: PackedTrees, context: int) -> str:
    """How far logits of the two lie apart, and whether they choose the same tokens."""
    eager, graph = (made[x].scores(trees, np.array([context])).float() for x in ("eager", "graph"))
    same = int((eager.argmax(-1) == graph.argmax(-1)).sum())
    largest = float((eager - graph).abs().max())
    return f"largest difference {largest:.2g} of {float(eager.abs().max()):.2g}, same {same}"


def rounds(model: LoadedModel, made: dict[str, Target], context: int, repeats: int) -> None:
    """Whole rounds at batch 1, plain and speculative."""
    for label, policy, tokens in (
        ("plain", Plain(), 1),
        ("speculative", WholeForest(), ROUND_TOKENS),
    ):
        records: dict[str, list[RoundRecord]] = {x: [] for x in made}
        runs = {x: one_round(y, policy, tokens, context, records[x]) for x, y in made.items()}
        in_turns(runs, repeats)
        kept = {x: y[1:] for x, y in records.items()}
        seconds = {x: [z.seconds for z in y] for x, y in kept.items()}
        rest = statistics.median(
            1 - (x.draft_seconds + x.verify_seconds) / x.seconds for x in kept["graph"]
        )
        print(
            f"{label} round of {tokens}: graph {1e3 * statistics.median(seconds['graph']):.3f} ms, "
            f"eager over graph {ratio_text(seconds['eager'], seconds['graph'])}, "
            f"neither draft nor verify {100 * rest:.1f} %"
        )
        bar = f"at most {100 * BAR_REST:.0f} % of a round neither draft nor verify"
        verdict(model, bar, rest <= BAR_REST)


def one_round(
    target: Target, policy: Policy, tokens: int, context: int, records: list[RoundRecord]
) -> Callable[[], None]:
    """A round of a request with `context` committed tokens, always the same."""

    def run() -> None:
        decoder = Decoder(target, EvenDrafter(tokens), policy, Unpriced(), frozenset())
        request = Request("benchmark", "benchmark", "benchmark", (0,) * context, 2 * tokens)
        decoder.rows = [Progress(request, 0)]
        records.append(decoder.round())

    return run


def verdict(model: LoadedModel, bar: str, met: bool) -> None:
    """One line about a bar; the bars are for GPUs."""
    if model.transformer.device.type == "cuda":
        print(f"  bar, {bar}: {'met' if met else 'missed'}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", default="auto")
    parser.add_argument("--target", default="shape:Llama-3.1-8B")
    parser.add_argument("--dtype", help="default by device")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=21)
    options = parser.parse_args(arguments)
    device = resolve_device(options.gpu)
    model = load_model(options.target, device, options.dtype)
    print(f"{device.name}, torch {torch.__version__}, {model.source.name}, {model.dtype}")
    made = targets(model, options.context)
    rate = bandwidth(model, options.repeats)
    passes(model, made, options.context, options.repeats, rate)
    rounds(model, made, options.context, options.repeats)
    pool = made["graph"].execution.pool
    assert pool is not None
    print(f"capturing took {pool.setup_seconds:.1f} s")


if __name__ == "__main__":
    main()

"""Our plain decoding against ``transformers`` ``generate``: default model, batch 1, interleaved.

    python benchmarks/plain_decode.py [--repeats 7] [--tokens 128]

Prints tokens per second of both, the ratio of medians, and the spread of the paired ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM

from smartprof.calibrate.synthetic import EvenDrafter, Unpriced
from smartprof.decode.requests import Request
from smartprof.decode.rounds import Decoder
from smartprof.decode.target import Target
from smartprof.device import resolve_device
from smartprof.models.loading import LoadedModel, load_model
from smartprof.policies.plain import Plain

PROMPT = "Explain in a few paragraphs how a sailing boat can travel against the wind."


def ours(model: LoadedModel, prompt: list[int], tokens: int) -> Callable[[], list[int]]:
    """Decode with our own loop, from prefill to the last token."""
    target = Target(model.transformer, 1, len(prompt) + tokens)
    request = Request("benchmark", "benchmark", "benchmark", tuple(prompt), tokens)

    def run() -> list[int]:
        decoder = Decoder(target, EvenDrafter(1), Plain(), Unpriced(), frozenset())
        decoder.admit(request, 0)
        while not decoder.rows[0].ended:
            decoder.round()
        return decoder.rows[0].output

    return run


def theirs(model: LoadedModel, prompt: list[int], tokens: int) -> Callable[[], list[int]]:
    """Decode with ``generate``, greedy, the same number of tokens."""
    reference = AutoModelForCausalLM.from_pretrained(model.source.path, dtype=torch.float32).eval()
    inputs = torch.tensor([prompt])

    def run() -> list[int]:
        with torch.inference_mode():
            output = reference.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                do_sample=False,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                pad_token_id=0,
            )
        return output[0, len(prompt) :].tolist()

    return run


def main() -> None:
    """Time both in turn and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    device = resolve_device("cpu")
    model = load_model("smollm2", device)
    prompt = model.tokenizer().chat(PROMPT)
    runs = [f(model, prompt, options.tokens) for f in (ours, theirs)]
    outputs = [run() for run in runs]  # warm-up
    seconds: list[list[float]] = [[], []]
    for _ in range(options.repeats):
        for run, samples in zip(runs, seconds, strict=True):
            start = time.perf_counter()
            run()
            samples.append(time.perf_counter() - start)
    ratios = [y / x for x, y in zip(*seconds, strict=True)]
    mine, other = (options.tokens / statistics.median(x) for x in seconds)
    print(f"{device.name}, {device.threads} threads, torch {torch.__version__}, float32, batch 1")
    print(f"smartprof plain: {mine:.1f} tok/s; transformers generate: {other:.1f} tok/s")
    print(
        f"ratio {mine / other:.2f} (paired runs {min(ratios):.2f} to {max(ratios):.2f}, "
        f"median {statistics.median(ratios):.2f} of {options.repeats})"
    )
    same = sum(x == y for x, y in zip(*outputs, strict=True))
    print(f"same tokens: {same} of {options.tokens}")


if __name__ == "__main__":
    main()

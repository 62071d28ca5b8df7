"""Times another engine, `transformers`, as `smartprof fit` takes it: CSV rows on standard output.

python examples/time_transformers.py MODEL_DIRECTORY > timings.csv
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM

BATCHES, CONTEXTS, REPEATS = (1, 4), (64, 512), 7
WIDTHS = (1, 2, 3, 4, 5, 8, 12, 16, 17, 24, 32)  # tokens of one request in a verify pass
LONGEST = 64  # tokens of a pass, whole batch
NEW = 8  # tokens by which a plain round is timed


def verify_seconds(model: Any, cache: Any, tokens: torch.Tensor) -> float:
    """One pass over tokens [batch, width], after which the cache is as it was."""
    start = time.perf_counter()
    model(tokens, past_key_values=cache).logits.argmax(-1)
    taken = time.perf_counter() - start
    cache.crop(-tokens.shape[1])
    return taken


def plain_seconds(model: Any, text: torch.Tensor) -> float:
    """One round of `generate`: what further tokens take after the first."""
    taken = []
    for count in (1, 1 + NEW):
        start = time.perf_counter()
        model.generate(text, max_new_tokens=count, min_new_tokens=count, do_sample=False)
        taken.append(time.perf_counter() - start)
    return (taken[1] - taken[0]) / NEW


@torch.inference_mode()
def main(folder: str) -> None:
    """Print rows of verify and plain_decode; all points once, over and over again."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    print("quantity,batch,tokens,context,seconds,repeat")
    for repeat in range(REPEATS + 1):
        for batch, context in [(x, y) for x in BATCHES for y in CONTEXTS]:
            text = torch.randint(1000, (batch, context))
            cache = model(text[:, :-1], use_cache=True).past_key_values
            rows = [
                ("verify", width * batch, verify_seconds(model, cache, text[:, :width]))
                for width in WIDTHS
                if width * batch <= LONGEST
            ]
            rows.append(("plain_decode", "", plain_seconds(model, text)))
            for quantity, size, taken in rows if repeat else []:  # the first time over warms up
                print(f"{quantity},{batch},{size},{context},{taken:.6f},{repeat}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

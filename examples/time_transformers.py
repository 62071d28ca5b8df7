"""Times another engine, `transformers`, as `smartprof fit` takes it: CSV rows on standard output.

python examples/time_transformers.py MODEL_DIRECTORY > timings.csv
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM

BATCHES, CONTEXTS, REPEATS = (1, 4), (64, 256), 7
WIDTHS = (1, 2, 3, 4, 5, 8, 12, 16, 17, 24, 32)  # tokens of one request in a verify pass
LONGEST = 32  # tokens of a pass, whole batch
ROUNDS = 4  # of plain decoding that are timed together


def verify_seconds(model: Any, cache: Any, tokens: torch.Tensor) -> float:
    """One pass over tokens [batch, width], after which the cache is as it was."""
    start = time.perf_counter()
    model(tokens, past_key_values=cache).logits.argmax(-1)
    taken = time.perf_counter() - start
    cache.crop(-tokens.shape[1])
    return taken


def plain_seconds(model: Any, cache: Any, token: torch.Tensor) -> float:
    """One round of a plain greedy loop from tokens [batch, 1] on."""
    start = time.perf_counter()
    for _ in range(ROUNDS):
        token = model(token, past_key_values=cache).logits[:, -1:].argmax(-1)
    taken = time.perf_counter() - start
    cache.crop(-ROUNDS)
    return taken / ROUNDS


@torch.inference_mode()
def main(folder: str) -> None:
    """Print rows of verify and plain_decode; all points once, over and over again."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    texts = {(x, y): torch.randint(1000, (x, y)) for x in BATCHES for y in CONTEXTS}
    caches = {x: model(y[:, :-1], use_cache=True).past_key_values for x, y in texts.items()}
    print("quantity,batch,tokens,context,seconds,repeat")
    for repeat in range(REPEATS + 1):
        for (batch, context), text in texts.items():
            cache = caches[batch, context]
            rows = [
                ("verify", width * batch, verify_seconds(model, cache, text[:, :width]))
                for width in WIDTHS
                if width * batch <= LONGEST
            ]
            rows.append(("plain_decode", "", plain_seconds(model, cache, text[:, -1:])))
            for quantity, size, taken in rows if repeat else []:  # the first time over warms up
                print(f"{quantity},{batch},{size},{context},{taken:.6f},{repeat}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

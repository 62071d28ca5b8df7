"""Is an output what plain decoding would have produced, token for token?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smartprof.decode.requests import Progress
from smartprof.decode.target import Target
from smartprof.trees.forest import Forest
from smartprof.trees.packed import pack

TIE = 5e-4  # float32 kernels of different shapes were seen to differ by 1e-4 on real text
MOST_TIES = 1e-3  # per token; more of them is not rounding


@dataclass(frozen=True)
class Equality:
    """Tokens compared; ties among them; tokens that plain decoding would not have chosen."""

    tokens: int
    ties: int
    changed: int

    @property
    def identical(self) -> bool:
        """Nothing changed, and at most one token in a thousand is a tie."""
        return self.changed == 0 and self.ties <= MOST_TIES * self.tokens

    def __add__(self, other: Equality) -> Equality:
        return Equality(
            self.tokens + other.tokens, self.ties + other.ties, self.changed + other.changed
        )


def compare(
    target: Target, finished: Progress, plain: Sequence[int], eos: frozenset[int]
) -> Equality:
    """Compare the output of a finished request with plain decoding's.

    Up to the first difference plain decoding's own output is the witness. From there on the output
    is fed through plain decoding, one token a pass, in row 0 of `target`: each token must be plain
    decoding's choice given the same prefix, or a tie (the second best, its logit within `TIE`). An
    output that ends without an end of sequence before the requested length has lost a token.
    """
    prompt, output = finished.request.tokens, finished.output
    cut = len(output) < finished.request.max_new_tokens and not eos & set(output[-1:])
    shared = next((i for i, (x, y) in enumerate(zip(output, plain, strict=False)) if x != y), None)
    if shared is None:  # no token differs, but one output may go on where the other ended
        return Equality(len(output), 0, abs(len(output) - len(plain)))
    ties, changed = 0, int(cut)
    target.prefill(0, [*prompt, *output[:shared]])
    for place in range(shared, len(output)):
        context = [*prompt, *output[:place]]
        forest = Forest.roots(np.array([context[-1]]))
        trees = pack(forest, np.array([], np.int64))
        logits = target.scores(trees, np.array([len(context)]))[0]
        best = logits.topk(2)
        if int(best.indices[0]) == output[place]:
            continue
        tied = (
            int(best.indices[1]) == output[place] and float(best.values[0] - best.values[1]) < TIE
        )
        ties, changed = ties + tied, changed + (not tied)
    return Equality(len(output), ties, changed)

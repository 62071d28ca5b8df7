"""Is an output what plain decoding would have produced, token for token?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smartprof.decode.choosers import RowChooser
from smartprof.decode.noise import gumbel
from smartprof.decode.records import Equality
from smartprof.decode.requests import Progress
from smartprof.decode.target import Target
from smartprof.decode.warping import threshold
from smartprof.trees.forest import Forest
from smartprof.trees.packed import pack

TIE = 5e-4  # float32 kernels of different shapes were seen to differ by 1e-4 on real text


def compare(
    target: Target, finished: Progress, plain: Sequence[int], eos: frozenset[int]
) -> Equality:
    """Compare the output of a finished request with plain decoding's.

    Up to the first difference plain decoding's own output is the witness. From there on the output
    is fed through plain decoding, one token a pass, in row 0 of `target`: each token must be plain
    decoding's choice given the same prefix, with the request's sampling and the noise of that
    position, or a tie. An output that ends without an end of sequence or a stop string before the
    requested length has lost a token.

    A token is a tie with plain decoding's choice if one coincidence stands between them. Scores are
    the logits, warped and with their noise; when two logits may differ by `TIE` through rounding,
    two scores may by `TIE` / temperature (times the repetition penalty, or its inverse if that is
    more). The token is a tie if no other token that is kept has a higher score than it but plain
    decoding's choice, and
    (a) both are kept and their scores are less than this apart, or
    (b) one of them is at the edge of top-k, top-p or min-p: changing logits by this puts it inside
        or outside (`threshold`), and were it on the other side, the token would be the choice.
    """
    prompt, output = finished.request.tokens, finished.output
    complete = finished.stopped or bool(eos & set(output[-1:]))
    cut = len(output) < finished.request.max_new_tokens and not complete
    shared = next((i for i, (x, y) in enumerate(zip(output, plain, strict=False)) if x != y), None)
    if shared is None:  # no token differs, but one output may go on where the other ended
        return Equality(len(output), 0, abs(len(output) - len(plain)))
    ties, changed = 0, int(cut)
    target.prefill(0, [*prompt, *output[:shared]])
    for place in range(shared, len(output)):
        context = [*prompt, *output[:place]]
        forest = Forest.roots(np.array([context[-1]]))
        trees = pack(forest, np.array([], np.int64))
        logits = target.scores(trees, np.array([len(context)]))
        choice = _PlainChoice.of(finished, context, logits)
        if choice.token == output[place]:
            continue
        tied = choice.ties_with(output[place])
        ties, changed = ties + tied, changed + (not tied)
    return Equality(len(output), ties, changed)


@dataclass(frozen=True, eq=False)
class _PlainChoice:
    """What plain decoding chooses after one prefix, and what rounding could have changed.

    scores: float64 [vocab], noise included. kept, surely, possibly: bool [vocab], tokens kept by
    top-k, top-p and min-p as the logits are, and after every or some change of them by `tolerance`.
    """

    scores: Tensor
    kept: Tensor
    surely: Tensor
    possibly: Tensor
    tolerance: float

    @classmethod
    def of(cls, finished: Progress, context: Sequence[int], logits: Tensor) -> _PlainChoice:
        """context: all tokens before. logits: [1, vocab]."""
        sampling = finished.request.sampling
        seen = np.asarray(context, np.int64)
        chooser = RowChooser(
            sampling, np.array([finished.seed]), np.array([len(context)]), seen * 0, seen
        )
        values = chooser.warped(logits)
        scores = values[0].double()
        if not sampling.greedy:
            tokens = torch.arange(len(scores), device=scores.device)
            scores += gumbel(chooser.noise_states(scores.device), tokens)
        tolerance = TIE * sampling.stretch
        kept, surely, possibly = (
            values[0] >= threshold(values, sampling, x) for x in (0.0, -tolerance, tolerance)
        )
        return cls(scores, kept, surely, possibly, tolerance)

    @property
    def token(self) -> int:
        """The kept token with the highest score."""
        return int(self.scores.masked_fill(~self.kept, -torch.inf).argmax())

    def ties_with(self, token: int) -> bool:
        """Whether `token`, another one, is a tie with the choice."""
        above = (self.kept & (self.scores > self.scores[token])).nonzero().flatten().tolist()
        if not self.possibly[token] or len(above) > 1:
            return False
        if not above:
            return True
        gap = float(self.scores[above[0]] - self.scores[token])
        return not self.surely[above[0]] or bool(self.kept[token] and gap < self.tolerance)

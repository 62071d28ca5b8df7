"""From the target's logits to the tokens that may be chosen, in the order of `generate`.

Repetition penalty, temperature, top-k, top-p, min-p with the meaning that they have in
transformers' `generate`. Top-k, top-p and min-p each keep the tokens from some logit up, so all of
them together are one threshold per row; tokens that tie with it are kept.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from smartprof.decode.sampling import Sampling

FIRST_WIDTH = 64  # tokens sorted at first to find the top-p threshold; real text needs few
WIDER = 16  # times more for rows that these do not cover


def warp(logits: Tensor, sampling: Sampling, row: Tensor, token: Tensor) -> Tensor:
    """Logits [m, vocab] after repetition penalty and temperature, float32.

    row, token: int64 [s], the tokens in the text so far of each row; repeats do not count twice.
    """
    values = logits.float()
    if sampling.repetition_penalty != 1:
        seen = values[row, token]
        penalty = sampling.repetition_penalty
        values = values.index_put(
            (row, token), torch.where(seen < 0, seen * penalty, seen / penalty)
        )
    return values if sampling.greedy else values / sampling.temperature


def threshold(values: Tensor, sampling: Sampling, slack: float = 0.0) -> Tensor:
    """The least warped logit that top-k, top-p and min-p all keep: float32 [m]; -inf: all.

    Tokens tied with the last one kept are kept too. At the k-th value `generate` does likewise; at
    the edge of top-p it keeps some of them, by the order of an unstable sort.

    With a slack other than 0 the threshold says what changed logits keep, when no difference of
    two of them moves by more than the slack: above 0 tokens below it are left out after every such
    change; with a slack below 0, of -x, tokens from it up are kept after every change by x.

    values: [m, vocab], warped.
    """
    # A token can be kept if, raised by the slack, it reaches the last one kept. It surely is if,
    # lowered by the slack, it is still above the first one left out: then none of those comes
    # before it, and of those kept not even all others are too many or too probable.
    least = _rank_threshold(values, sampling, slack)
    if slack < 0:
        least = values.masked_fill(values >= least.unsqueeze(-1), -math.inf).amax(dim=-1)
    if sampling.min_p > 0:
        least = torch.maximum(least, values.amax(dim=-1) + math.log(sampling.min_p))
    return least - slack


def _rank_threshold(values: Tensor, sampling: Sampling, slack: float) -> Tensor:
    """The least value kept by top-k and top-p, which count and add up the tokens above.

    slack: probabilities relative to one another change by factors of exp(slack) at most, so top-p
    is that much larger or smaller; the total is taken over what top-k keeps unchanged.
    """
    least = values.new_full(values.shape[:1], -math.inf)
    if sampling.top_k is not None and sampling.top_k < values.shape[-1]:
        least = values.topk(sampling.top_k).values[:, -1]
        values = values.masked_fill(values < least.unsqueeze(-1), -math.inf)
    share = sampling.top_p * math.exp(slack)
    if sampling.top_p < 1 and share < 1:
        least = torch.maximum(least, _top_p_threshold(values, share))
    return least


def _top_p_threshold(values: Tensor, share: float) -> Tensor:
    """The least value such that the tokens above it have less than `share` of the probability."""
    log_total = values.logsumexp(dim=-1, keepdim=True)
    least = torch.empty_like(log_total[:, 0])
    rows = torch.arange(len(values), device=values.device)
    width = FIRST_WIDTH
    while len(rows):
        width = min(width, values.shape[-1])
        best = values[rows].topk(width).values  # [rows, width], falling
        prob = (best - log_total[rows]).double().exp()
        kept = (prob.cumsum(dim=-1) - prob < share).sum(dim=-1, keepdim=True)
        least[rows] = best.gather(-1, kept - 1).squeeze(-1)
        rows = rows[kept.squeeze(-1) == width] if width < values.shape[-1] else rows[:0]
        width *= WIDER
    return least

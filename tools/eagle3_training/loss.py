"""Cross entropy of a head's proposals against the target's probabilities, without keeping logits.

The last product, the softmax and both their gradients are taken together, a block of queries at a
time: over thousands of draft tokens, the logits of all steps would be most of what training moves
through memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eagle3_training.batches import Batch
from eagle3_training.network import TrainableHead
from smartprof.decode.choosers import greedy

BLOCK = 768  # queries


@dataclass(frozen=True)
class Judged:
    """Sums over queries: loss, and agreements with the target's most probable token, by step."""

    loss: float
    agreed: tuple[int, ...]
    counted: tuple[int, ...]


def losses(
    head: TrainableHead, outputs: list[Tensor], batch: Batch, decay: float, dtype: torch.dtype
) -> tuple[Tensor, Judged]:
    """Mean surprise over the first step's queries; a step weighs decay ** step, in all 1.

    outputs: of `head`, by step. dtype: of the products.
    """
    valid = [batch.valid(x) for x in range(len(outputs))]
    counted = [int(x.sum()) for x in valid]

    def judged_by(x: Tensor) -> list[Tensor]:
        return [batch.shifted(x, step)[chosen] for step, chosen in enumerate(valid)]

    scale = sum(decay**x for x in range(len(outputs))) * max(1, counted[0])
    share = [decay**x / scale * y for x, y in enumerate(judged_by(batch.top))]
    inputs = head.norm(torch.cat([x[y] for x, y in zip(outputs, valid, strict=True)]))
    loss, right = Surprise.apply(
        inputs,
        head.lm_head.weight,
        torch.cat(judged_by(batch.top_id)),
        torch.cat(share),
        torch.cat(judged_by(batch.best)),
        dtype,
    )
    agreed = [int(x.sum()) for x in right.split(counted)]
    return loss, Judged(float(loss.detach()) * counted[0], tuple(agreed), tuple(counted))


class Surprise(torch.autograd.Function):
    """Sum over queries of the cross entropy of ``softmax(x W^T)`` against some tokens' shares.

    x: float32 [N, hidden]. weight: [V, hidden]. token: int64 [N, K], -1 for none; share: float32
    [N, K], 0 for none, times the query's weight. best: int64 [N]. Also gives bool [N]: whether the
    largest logit is that of `best`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        token: Tensor,
        share: Tensor,
        best: Tensor,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """The loss and which queries agree; gradients are worked out on the way."""
        inputs, weights = x.to(dtype), weight.to(dtype)
        to_x, to_weight = torch.empty_like(x), torch.zeros_like(weight, dtype=torch.float32)
        loss, right = x.new_zeros(()), torch.zeros_like(best, dtype=torch.bool)
        # Made once: fresh memory costs more than what is done with it.
        products = weights.new_empty(BLOCK, len(weights))
        wide = weights.new_empty(BLOCK, len(weights), dtype=torch.float32)
        for start in range(0, len(x), BLOCK):
            part = slice(start, start + BLOCK)
            product = torch.mm(inputs[part], weights.T, out=products[: len(inputs[part])])
            scores = wide[: len(product)].copy_(product)
            right[part] = greedy(scores) == best[part]
            gradient, surprise = _softmax_(scores, token[part].clamp(min=0), share[part])
            loss += surprise
            gradient = product.copy_(gradient)
            to_x[part] = gradient @ weights
            to_weight += gradient.T @ inputs[part]
        ctx.save_for_backward(to_x, to_weight)
        ctx.mark_non_differentiable(right)
        return loss, right

    @staticmethod
    def backward(ctx: Any, loss: Tensor, right: Tensor) -> Any:  # type: ignore[override]
        """Of x and weight."""
        to_x, to_weight = ctx.saved_tensors
        return to_x * loss, to_weight * loss, None, None, None, None


def _softmax_(scores: Tensor, token: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """From float32 scores [n, V], in place, the gradient by them; and the summed cross entropy."""
    known = share.sum(-1, keepdim=True)  # 0 where the draft vocabulary has none of the tokens
    scores -= scores.amax(-1, keepdim=True)
    picked = (scores.gather(1, token) * share).sum()
    scores.exp_()
    total = scores.sum(-1, keepdim=True)
    surprise = (total.log() * known).sum() - picked
    scores *= known / total
    scores.scatter_add_(1, token, -share)
    return scores, surprise

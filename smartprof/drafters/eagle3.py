"""Drafting with an EAGLE-3 head, which reads the target's features.

Li, Wei, Zhang and Zhang, "EAGLE-3: Scaling up Inference Acceleration of Large Language Models via
Training-Time Test", arXiv 2503.01840. Entry i of the head's cache is the pair of the target's
features at token i and token i + 1, so that a request's first token has no entry of its own, and
the entry of the root, whose features the target has not computed yet, is that of the features
before it. Below the root the head's own outputs stand in for features; accepted tokens are run
again with the true ones.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from smartprof.drafters.model_drafter import TREE_SLOTS, Ids, ModelDrafter
from smartprof.models.buckets import CAPTURE_SIZES
from smartprof.models.cache import KVCache
from smartprof.models.eagle3 import Eagle3Head
from smartprof.models.execution import EAGER, Execution
from smartprof.models.inputs import PackedInput, Tokens, packed_input

MOST_CAPTURED_TOKENS = max(CAPTURE_SIZES)  # longer catch-ups run by themselves


class Eagle3Drafter(ModelDrafter):
    """Proposes what a draft head makes of the target's features."""

    name = "eagle3"
    skipped = 1

    def __init__(self, head: Eagle3Head, execution: Execution = EAGER) -> None:
        digest = f"eagle3-{head.shape.digest}"
        super().__init__(head.shape.layer, digest, execution=execution)
        self.head = head
        self.taps = head.shape.taps
        self._target: KVCache | None = None

    def attach(self, cache: KVCache) -> None:
        """Read features from the target's cache."""
        self._target = cache
        super().attach(cache)

    def _open(self, cache: KVCache) -> None:
        head, data = self.head, cache.data
        self._outputs = data.new_zeros(cache.batch * (TREE_SLOTS + 1), self.shape.hidden)
        self._fused = fused = data.new_zeros(MOST_CAPTURED_TOKENS, self.shape.hidden)

        def outputs(batch: PackedInput) -> Tensor:
            return head.forward(fused[: len(batch.tokens)], batch, cache)

        self._catchup = self._runner(lambda x: (outputs(x),), head.layout, "draft catch-up")
        self._step = self._runner(
            lambda x: (made := outputs(x), head.logits(made)), head.layout, "draft step"
        )

    def _committed(self, tokens: Tokens) -> Tensor:
        assert self._target is not None
        entries = (tokens.first_row + tokens.request) * self._target.columns + tokens.slot
        hidden = self.head.fuse(self._target.features[self._index(entries)])
        if len(hidden) <= len(self._fused):
            self._fused[: len(hidden)] = hidden
            return self._catchup.run(tokens, len(hidden))[0]
        assert self.cache is not None
        batch = packed_input(self.cache, tokens, self.head.layout, len(hidden))
        return self.head.forward(hidden, batch, self.cache)

    def _drafted(self, tokens: Tokens, parent: Ids) -> tuple[Tensor, Tensor]:
        count = len(parent)
        self._fused[:count] = self._outputs[self._index(parent)]
        outputs, scores = self._step.run(tokens, count)
        return outputs, scores

    def _keep(self, place: Ids, outputs: Tensor) -> None:
        self._outputs[self._index(place)] = outputs

    def _scores(self, outputs: Tensor) -> Tensor:
        return self.head.logits(outputs)

    def _target_ids(self, draft_ids: Tensor) -> Tensor:
        return self.head.target_ids[draft_ids]

    def _index(self, values: Ids) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)

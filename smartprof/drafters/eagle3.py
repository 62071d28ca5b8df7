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
from smartprof.models.cache import KVCache
from smartprof.models.eagle3 import Eagle3Head
from smartprof.models.inputs import Tokens, packed_input


class Eagle3Drafter(ModelDrafter):
    """Proposes what a draft head makes of the target's features."""

    name = "eagle3"
    skipped = 1

    def __init__(self, head: Eagle3Head) -> None:
        super().__init__(head.shape.layer, f"eagle3-{head.shape.digest}")
        self.head = head
        self.taps = head.shape.taps
        self._target: KVCache | None = None
        self._outputs: Tensor | None = None  # of roots and nodes of this round, by place

    def attach(self, cache: KVCache) -> None:
        """Read features from the target's cache."""
        super().attach(cache)
        places = cache.batch * (TREE_SLOTS + 1)
        self._target = cache
        self._outputs = cache.data.new_zeros(places, self.shape.hidden)

    def _committed(self, tokens: Tokens) -> Tensor:
        assert self._target is not None
        entries = (tokens.first_row + tokens.request) * self._target.columns + tokens.slot
        features = self._target.read_features(self.taps, self._index(entries))
        return self._run(tokens, self.head.fuse(features))

    def _drafted(self, tokens: Tokens, parent: Ids) -> Tensor:
        assert self._outputs is not None
        return self._run(tokens, self._outputs[self._index(parent)])

    def _run(self, tokens: Tokens, hidden: Tensor) -> Tensor:
        assert self.cache is not None
        batch = packed_input(self.cache, tokens, self.head.layout, len(tokens.token))
        return self.head.forward(hidden, batch, self.cache)

    def _keep(self, place: Ids, outputs: Tensor) -> None:
        assert self._outputs is not None
        self._outputs[self._index(place)] = outputs

    def _scores(self, outputs: Tensor) -> Tensor:
        return self.head.logits(outputs)

    def _target_ids(self, draft_ids: Tensor) -> Tensor:
        return self.head.target_ids[draft_ids]

    def _index(self, values: Ids) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)

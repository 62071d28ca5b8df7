"""The target model with its cache: prefill, verify a batch of trees, keep what was accepted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from smartprof.decode.inputs import prefill_input, verify_input
from smartprof.models.cache import KVCache
from smartprof.models.transformer import Transformer
from smartprof.trees.packed import Accepted, PackedTrees

PREFILL_CHUNK = 256  # tokens of one prefill pass: bounds the mask and the activations


class Target:
    """A transformer and the key-value cache of one batch of requests."""

    def __init__(self, model: Transformer, batch: int, capacity: int) -> None:
        self.model = model
        self.group = model.shape.heads // model.shape.kv_heads
        self.cache = KVCache(model.shape, batch, capacity, model.dtype, model.device)

    def synchronise(self) -> None:
        """Wait for the device, so that a clock read next covers the work before it."""
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)

    @torch.inference_mode()
    def prefill(self, row: int, tokens: Sequence[int], chunk: int = PREFILL_CHUNK) -> None:
        """Take a request's committed tokens but the newest, which is the root, into its row."""
        known = np.asarray(tokens[:-1], np.int64)
        self.cache.require(len(tokens))
        for start in range(0, len(known), chunk):
            part = known[start : start + chunk]
            self.model.forward(prefill_input(self.cache, row, start, part, self.group), self.cache)

    @torch.inference_mode()
    def verify(
        self, trees: PackedTrees, context_lens: NDArray[np.int64], pad_to: int
    ) -> NDArray[np.int64]:
        """The target's own next token after every tree node, greedy: int64 [M].

        context_lens: int64 [B]; `pad_to` >= M tokens are really run, or more if that is faster on
        this processor.
        """
        really = self.model.small_counts.run_as.get(pad_to, pad_to)
        logits = self.model.logits(self._forward(trees, context_lens, really))
        return logits.argmax(dim=-1)[: len(trees.token)].cpu().numpy()

    @torch.inference_mode()
    def scores(self, trees: PackedTrees, context_lens: NDArray[np.int64]) -> torch.Tensor:
        """Logits after every tree node, [M, vocab]."""
        really = self.model.small_counts.run_as.get(len(trees.token), len(trees.token))
        logits = self.model.logits(self._forward(trees, context_lens, really))
        return logits[: len(trees.token)]

    @torch.inference_mode()
    def keep(self, trees: PackedTrees, accepted: Accepted, context_lens: NDArray[np.int64]) -> None:
        """Move the cache entries of accepted nodes behind the root, in order, in every layer."""
        sources, targets = [], []
        for row, path in enumerate(accepted.paths):
            slots = trees.slot[path]
            wanted = np.arange(1, len(path) + 1)
            start = row * self.cache.columns + context_lens[row] - 1
            moved = slots != wanted
            sources.append(start + slots[moved])
            targets.append(start + wanted[moved])
        source = np.concatenate(sources)
        if source.size:
            device = self.cache.keys.device
            target = torch.from_numpy(np.concatenate(targets)).to(device)
            self.cache.move(torch.from_numpy(source).to(device), target)

    def _forward(
        self, trees: PackedTrees, context_lens: NDArray[np.int64], pad_to: int
    ) -> torch.Tensor:
        self.cache.require(int((context_lens - 1 + trees.counts).max()))
        batch = verify_input(self.cache, trees, context_lens, pad_to, self.group)
        return self.model.forward(batch, self.cache)

"""The target model with its cache: prefill, verify a batch of trees, keep what was accepted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from smartprof.models.cache import KVCache
from smartprof.models.inputs import Tokens, chain_tokens, packed_input
from smartprof.models.transformer import Transformer
from smartprof.trees.packed import Accepted, PackedTrees

PREFILL_CHUNK = 256  # tokens of one prefill pass: bounds the mask and the activations


class Target:
    """A transformer and the key-value cache of one batch of requests.

    taps: layers whose inputs are kept for the drafter.
    """

    def __init__(
        self, model: Transformer, batch: int, capacity: int, taps: Sequence[int] = ()
    ) -> None:
        self.model = model
        self.cache = KVCache(model.shape, batch, capacity, model.dtype, model.device, taps)

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
            part = chain_tokens(known[start : start + chunk], row, start)
            batch = packed_input(self.cache, part, self.model.layout, len(part.token))
            self.model.forward(batch, self.cache)

    @torch.inference_mode()
    def verify(
        self, trees: PackedTrees, context_lens: NDArray[np.int64], pad_to: int
    ) -> NDArray[np.int64]:
        """The target's own next token after every tree node, greedy: int64 [M].

        context_lens: int64 [B]; `pad_to` >= M tokens are really run, or more if that is faster on
        this processor.
        """
        logits = self._logits(trees, context_lens, pad_to)
        return _argmax(logits[: len(trees.token)])

    @torch.inference_mode()
    def scores(self, trees: PackedTrees, context_lens: NDArray[np.int64]) -> torch.Tensor:
        """Logits after every tree node, [M, vocab]."""
        return self._logits(trees, context_lens, len(trees.token))[: len(trees.token)]

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
            device = self.cache.device
            target = torch.from_numpy(np.concatenate(targets)).to(device)
            self.cache.move(torch.from_numpy(source).to(device), target)

    def _logits(
        self, trees: PackedTrees, context_lens: NDArray[np.int64], pad_to: int
    ) -> torch.Tensor:
        """Logits [at least pad_to, vocab]; those of the trees come first."""
        self.cache.require(int((context_lens - 1 + trees.counts).max()))
        tokens = _tree_tokens(trees, context_lens - 1)
        batch = packed_input(self.cache, tokens, self.model.layout, self.model.run_as(pad_to))
        return self.model.logits(self.model.forward(batch, self.cache))


def _argmax(logits: torch.Tensor) -> NDArray[np.int64]:
    """Index of the largest of each row, [M, vocab] to [M]."""
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        return logits.numpy().argmax(axis=-1)  # a quarter of the time of torch's own
    return logits.argmax(dim=-1).cpu().numpy()


def _tree_tokens(trees: PackedTrees, before: NDArray[np.int64]) -> Tokens:
    """The trees behind the slots filled before this pass, int64 [B].

    A node at depth d has position before + d, and sees the committed prefix, its ancestors and
    itself.
    """
    width = int(trees.counts.max())
    position = before[trees.request] + trees.depth
    inside_position = np.zeros((len(before), width), np.int64)
    inside_position[trees.request, trees.slot] = position
    return Tokens(
        token=trees.token,
        request=trees.request,
        position=position,
        slot=before[trees.request] + trees.slot,
        counts=trees.counts,
        before=before,
        inside=trees.ancestor_mask(width),
        inside_position=inside_position,
    )

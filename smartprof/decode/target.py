"""The target model with its cache: prefill, verify a batch of trees, keep what was accepted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from smartprof.decode.choosers import Chooser, chooser_for, greedy
from smartprof.decode.requests import Progress, Request
from smartprof.drafters.base import Drafter
from smartprof.models.backends import attention_backends
from smartprof.models.cache import KVCache
from smartprof.models.execution import EAGER, Execution, model_pass
from smartprof.models.inputs import Tokens, chain_tokens, packed_input
from smartprof.models.transfer import send
from smartprof.models.transformer import Transformer
from smartprof.trees.packed import Accepted, PackedTrees

PREFILL_CHUNK = 256  # tokens of one prefill pass: bounds the mask and the activations


class Target:
    """A transformer and the key-value cache of one batch of requests.

    taps: layers whose inputs are kept for the drafter. execution: how verify passes run; prefill
    always runs eagerly.
    """

    def __init__(
        self,
        model: Transformer,
        batch: int,
        capacity: int,
        taps: Sequence[int] = (),
        execution: Execution = EAGER,
    ) -> None:
        self.model, self.execution = model, execution
        slots = execution.capacity(capacity)
        self.cache = KVCache(model.shape, batch, slots, model.dtype, model.device, taps)
        self.runner = execution.runner(
            model_pass(model, self.cache), self.cache, model.layout, name="target"
        )

    def synchronise(self) -> None:
        """Wait for the device, so that a clock read next covers the work before it."""
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)

    def clock(self) -> float:
        """Seconds of a clock that stands still while passes are captured."""
        return self.execution.clock()

    def attach(self, drafter: Drafter) -> None:
        """Show the drafter the cache, whose features it may read."""
        drafter.attach(self.cache)

    def admit(self, row: int, request: Request) -> None:
        """Prefill a request into a free row; raises before that if it will not fit."""
        self.cache.require(len(request.tokens) + request.max_new_tokens)
        self.prefill(row, request.tokens)

    def move(self, source: int, target: int, context_len: int) -> None:
        """Copy a request's cache entries to another row."""
        self.cache.move_row(source, target, context_len)

    def choose(
        self,
        rows: Sequence[Progress],
        trees: PackedTrees,
        context_lens: NDArray[np.int64],
        pad_to: int,
    ) -> NDArray[np.int64]:
        """The target's own next token after every tree node, as each request's sampling says."""
        chooser = chooser_for(rows, trees, context_lens)
        return self.verify(trees, context_lens, pad_to, chooser)

    @torch.inference_mode()
    def prefill(self, row: int, tokens: Sequence[int], chunk: int = PREFILL_CHUNK) -> None:
        """Take a request's committed tokens but the newest, which is the root, into its row."""
        known = np.asarray(tokens[:-1], np.int64)
        self.cache.require(len(tokens))
        for start in range(0, len(known), chunk):
            part = chain_tokens(known[start : start + chunk], row, start)
            batch = packed_input(self.cache, part, self.model.layout, len(part.token))
            with attention_backends(self.model.device):
                self.model.forward(batch, self.cache)

    @torch.inference_mode()
    def verify(
        self,
        trees: PackedTrees,
        context_lens: NDArray[np.int64],
        pad_to: int,
        choose: Chooser = greedy,
    ) -> NDArray[np.int64]:
        """The target's own next token after every tree node: int64 [M].

        context_lens: int64 [B]. pad_to: tokens that are really run, M at least; captured passes
        run as many as the next larger one has. choose: takes the logits of the M nodes.
        """
        logits = self._logits(trees, context_lens, pad_to)
        return choose(logits[: len(trees.token)]).cpu().numpy()

    @torch.inference_mode()
    def scores(self, trees: PackedTrees, context_lens: NDArray[np.int64]) -> torch.Tensor:
        """Logits after every tree node, [M, vocab]; they hold until the next pass."""
        return self._logits(trees, context_lens, len(trees.token))[: len(trees.token)]

    @torch.inference_mode()
    def keep(self, trees: PackedTrees, accepted: Accepted, context_lens: NDArray[np.int64]) -> None:
        """Move the cache entries of accepted nodes behind the root, in order, in every layer."""
        path = np.concatenate(accepted.paths)
        lengths = accepted.lengths
        place = 1 + np.arange(len(path)) - np.repeat(lengths.cumsum() - lengths, lengths)
        moved = trees.slot[path] != place
        path, place = path[moved], place[moved]
        if path.size:
            request = trees.request[path]
            start = request * self.cache.columns + context_lens[request] - 1
            entries = [start + trees.slot[path], start + place]
            self.cache.move(*send(entries, self.cache.device))

    def _logits(
        self, trees: PackedTrees, context_lens: NDArray[np.int64], pad_to: int
    ) -> torch.Tensor:
        """Logits [at least pad_to, vocab]; those of the trees come first."""
        self.cache.require(int((context_lens - 1 + trees.counts).max()))
        return self.runner.run(_tree_tokens(trees, context_lens - 1), pad_to)[0]


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

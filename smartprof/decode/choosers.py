"""The target's own token after every tree node: what verification compares the drafts with.

Plain decoding is a tree that is a root alone, so it makes the same choice with the same noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smartprof.decode.noise import MOST_NOISE, gumbel, nth_word
from smartprof.decode.requests import Progress
from smartprof.decode.sampling import Sampling
from smartprof.decode.warping import threshold, warp
from smartprof.trees.packed import PackedTrees

# From logits [M, vocab] of a verify pass to the target's own token per node, int64 [M].
Chooser = Callable[[Tensor], Tensor]


def greedy(logits: Tensor) -> Tensor:
    """The largest logit: int64 [M]."""
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        return torch.from_numpy(logits.numpy().argmax(axis=-1))  # a quarter of torch's own time
    return logits.argmax(dim=-1)


def _nothing() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class RowChooser:
    """The choice for m rows of logits with the same settings.

    seed: int64 [m], of each row's request. position: int64 [m], index in the request's text of the
    token to choose. seen_row, seen_token: int64 [s], tokens in the text before that position, for
    the repetition penalty; empty if there is none.
    """

    sampling: Sampling
    seed: NDArray[np.int64]
    position: NDArray[np.int64]
    seen_row: NDArray[np.int64] = field(default_factory=_nothing)
    seen_token: NDArray[np.int64] = field(default_factory=_nothing)

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits [m, vocab] to tokens int64 [m]."""
        values = self.warped(logits)
        return greedy(values) if self.sampling.greedy else self._sampled(values)

    def warped(self, logits: Tensor) -> Tensor:
        """Logits after repetition penalty and temperature, float32 [m, vocab]."""
        seen = self.seen_row, self.seen_token
        row, token = (torch.from_numpy(x).to(logits.device) for x in seen)
        return warp(logits, self.sampling, row, token)

    def noise_states(self, device: torch.device) -> Tensor:
        """int64 [m]: where the noise of each row's tokens starts."""
        seed, position = (torch.from_numpy(x).to(device) for x in (self.seed, self.position))
        return nth_word(seed, position)

    def _sampled(self, values: Tensor) -> Tensor:
        """The largest sum of warped logit and noise among the tokens kept.

        No noise exceeds MOST_NOISE, so a token more than that below the perturbed score of the
        row's most probable token (which every truncation keeps) cannot have the largest sum, and
        needs no noise. MOST_NOISE is rounded up by more than float32 loses here.
        """
        states = self.noise_states(values.device)
        best, top = values.max(dim=-1)
        reach = best + gumbel(states, top) - MOST_NOISE
        least = torch.maximum(threshold(values, self.sampling), reach.float())
        row, token = (values >= least.unsqueeze(-1)).nonzero(as_tuple=True)
        score = values[row, token] + gumbel(states[row], token)
        return _winners(len(values), row, token, score)


def chooser_for(
    rows: Sequence[Progress], trees: PackedTrees, context_lens: NDArray[np.int64]
) -> Chooser:
    """The chooser of one verify pass; requests of one batch may have different settings.

    rows: the requests of the batch. context_lens: int64 [B], committed tokens, roots included: the
    token after a node at depth d has index ``context_len + d`` in its request's text.
    """
    if all(x.request.sampling.is_argmax for x in rows):
        return greedy
    members: dict[Sampling, list[int]] = {}
    for number, progress in enumerate(rows):
        members.setdefault(replace(progress.request.sampling, seed=0), []).append(number)
    seed = np.array([x.seed for x in rows])[trees.request]
    position = context_lens[trees.request] + trees.depth
    choosers = []
    for sampling, requests in members.items():
        nodes = np.isin(trees.request, requests).nonzero()[0]
        seen = () if sampling.repetition_penalty == 1 else _seen(rows, trees, nodes)
        choosers.append((nodes, RowChooser(sampling, seed[nodes], position[nodes], *seen)))
    return choosers[0][1] if len(choosers) == 1 else _Mixed(choosers)


@dataclass(frozen=True, eq=False)
class _Mixed:
    """Several choosers, each for its own nodes."""

    parts: list[tuple[NDArray[np.int64], RowChooser]]

    def __call__(self, logits: Tensor) -> Tensor:
        chosen = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
        for nodes, chooser in self.parts:
            at = torch.from_numpy(nodes).to(logits.device)
            chosen[at] = chooser(logits[at])
        return chosen


def _seen(
    rows: Sequence[Progress], trees: PackedTrees, nodes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which row of `nodes` has which token before it: committed ones and the node's own path."""
    node, ancestor = trees.lineage
    place = np.full(len(trees.token), -1)
    place[nodes] = np.arange(len(nodes))
    chosen = place[node] >= 0
    seen_rows, seen_tokens = [place[node[chosen]]], [trees.token[ancestor[chosen]]]
    for request in np.unique(trees.request[nodes]).tolist():
        text = np.unique([*rows[request].request.tokens, *rows[request].output])
        own = place[nodes[trees.request[nodes] == request]]
        seen_rows.append(np.repeat(own, len(text)))
        seen_tokens.append(np.tile(text, len(own)))
    return np.concatenate(seen_rows), np.concatenate(seen_tokens)


def _winners(rows: int, row: Tensor, token: Tensor, score: Tensor) -> Tensor:
    """Token of the largest score of each row, the smallest id where scores are equal: int64 [rows].

    row: int64 [k] in 0 ... rows - 1, each at least once. token: int64 [k]. score: float64 [k].
    """
    best = score.new_full((rows,), -math.inf).scatter_reduce_(0, row, score, "amax")
    won = score == best[row]
    largest = torch.full((rows,), torch.iinfo(torch.int64).max, device=row.device)
    return largest.scatter_reduce_(0, row[won], token[won], "amin")

"""From trees and lengths to the tensors of one forward pass."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smartprof.models.cache import KVCache
from smartprof.models.transformer import Attention, PackedInput
from smartprof.trees.packed import PackedTrees

HIDDEN = float("-inf")


def prefill_input(
    cache: KVCache, row: int, start: int, tokens: NDArray[np.int64], group: int
) -> PackedInput:
    """A run of one request's own tokens, from slot `start` on, each seeing all before it.

    tokens: int64 [n]. `group` query heads share one key-value head.
    """
    slots = np.arange(start, start + len(tokens))
    visible = np.arange(start + len(tokens)) <= slots[:, None]  # [n, kv_len]
    attention = Attention(
        rows=slice(row, row + 1),
        kv_len=start + len(tokens),
        width=len(tokens),
        mask=_additive(visible[None], group, cache),
    )
    return PackedInput(
        tokens=_tensor(tokens, cache),
        positions=_tensor(slots, cache),
        entries=_tensor(row * cache.columns + slots, cache),
        attention=attention,
    )


def verify_input(
    cache: KVCache,
    trees: PackedTrees,
    context_lens: NDArray[np.int64],
    pad_to: int,
    group: int,
) -> PackedInput:
    """All requests' trees as one packed pass of `pad_to` tokens.

    context_lens: int64 [B], committed tokens, the root (the newest of them) included; a node at
    depth d has position context_len - 1 + d, and sees the committed prefix, its ancestors and
    itself. Padding tokens write to the scratch column and are never read.
    """
    spare = pad_to - len(trees.token)
    before = context_lens - 1  # slots filled before this pass, [B]
    width = int(trees.counts.max())
    entries = trees.request * cache.columns + before[trees.request] + trees.slot
    attention = Attention(
        rows=slice(0, len(context_lens)),
        kv_len=int((before + trees.counts).max()),
        width=width,
        mask=_tree_mask(cache, trees, before, width, group),
        gather=_gather(cache, trees, width, spare),
        scatter=_scatter(cache, trees, width, spare),
    )
    return PackedInput(
        tokens=_tensor(_padded(trees.token, spare, 0), cache),
        positions=_tensor(_padded(before[trees.request] + trees.depth, spare, 0), cache),
        entries=_tensor(_padded(entries, spare, cache.columns - 1), cache),
        attention=attention,
    )


def _padded(values: NDArray[np.int64], spare: int, fill: int) -> NDArray[np.int64]:
    return np.concatenate([values, np.full(spare, fill, np.int64)]) if spare else values


def _gather(cache: KVCache, trees: PackedTrees, width: int, spare: int) -> Tensor | None:
    """Packed index of each padded place; places without a token repeat the request's root."""
    if len(trees.counts) * width == len(trees.token) and not spare:
        return None
    places = np.repeat(trees.offset, width)
    places[trees.request * width + trees.slot] = np.arange(len(trees.token))
    return _tensor(places, cache)


def _scatter(cache: KVCache, trees: PackedTrees, width: int, spare: int) -> Tensor | None:
    """Padded place of each packed token; padding tokens take any."""
    if len(trees.counts) * width == len(trees.token) and not spare:
        return None
    return _tensor(_padded(trees.request * width + trees.slot, spare, 0), cache)


def _tree_mask(
    cache: KVCache, trees: PackedTrees, before: NDArray[np.int64], width: int, group: int
) -> Tensor | None:
    if width == 1 and len(before) == 1:
        return None  # one token of one request sees everything there is
    kv_len = int((before + trees.counts).max())
    ancestors = trees.ancestor_mask(width)  # [B, width, width]
    slots = np.arange(kv_len)
    committed = slots < before[:, None]  # [B, kv_len]
    visible = np.repeat(committed[:, None], width, axis=1)  # [B, width, kv_len]
    inside = np.minimum(trees.counts, kv_len - before)
    for request, (start, count) in enumerate(zip(before, inside, strict=True)):
        visible[request, :, start : start + count] = ancestors[request, :, :count]
    return _additive(visible, group, cache)


def _additive(visible: NDArray[np.bool_], group: int, cache: KVCache) -> Tensor:
    """Boolean [R, width, kv_len] to additive [R, 1, width * group, kv_len]."""
    mask = torch.from_numpy(visible).to(cache.keys.device)
    mask = mask.repeat_interleave(group, dim=1).unsqueeze(1)
    added = torch.zeros(mask.shape, dtype=cache.keys.dtype, device=mask.device)
    return added.masked_fill_(~mask, HIDDEN)


def _tensor(values: NDArray[np.int64], cache: KVCache) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(cache.keys.device)

"""Attention of requests of any lengths in one call without padding, by the function of `ragged.c`.

What a pass takes then grows with what its tokens see, not with the longest request beside them, and
a call costs next to nothing. float32 on CPUs.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from smartprof.models.c_library import LANES, load_c_library
from smartprof.models.cache import KVCache
from smartprof.models.shapes import named_shape

SOURCE = Path(__file__).with_name("ragged.c")
TOLERANCE = 1e-4


class _Plan(ctypes.Structure):
    """`plan` of ragged.c."""

    _fields_ = (
        *((x, ctypes.c_void_p) for x in ("tasks", "offset", "entry", "before", "oldest", "extent")),
        ("inside", ctypes.c_void_p),
        *((x, ctypes.c_size_t) for x in ("count", "width", "span", "kv_heads", "group", "size")),
        ("head_stride", ctypes.c_size_t),
    )


@dataclass(frozen=True, eq=False)
class Sight:
    """What the M tokens of a pass see, sorted by request.

    counts: int64 [R], tokens per request. entry: int64 [R], of the cache, where a request's slot 0
    lies. before: int64 [R]; each of its tokens sees the slots up to there, from the token's own
    `oldest` on, int64 [M]. inside: bool [R, width, span], which of the slots from `before` on each
    token sees. extent: int64 [M]; none sees a slot from there on.
    """

    counts: NDArray[np.int64]
    entry: NDArray[np.int64]
    before: NDArray[np.int64]
    oldest: NDArray[np.int64]
    inside: NDArray[np.bool_]
    extent: NDArray[np.int64]


class RaggedFunction:
    """The compiled function. rows: query heads, over all its tokens, that a task takes at most."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self.attend: Any = library.ragged_attention
        self.attend.argtypes = [pointer, pointer, size, pointer, pointer, pointer, ctypes.c_int]
        self.attend.restype = None
        self.rows = int(library.ragged_rows())

    def serves(self, heads: int, kv_heads: int, head_dim: int) -> bool:
        """Whether it can be run for such heads."""
        return head_dim % LANES == 0 and heads // kv_heads <= self.rows


class RaggedAttention:
    """Attention of one pass, prepared once and run in every layer; an `AttentionPlan`."""

    def __init__(self, function: RaggedFunction, sight: Sight, cache: KVCache, group: int) -> None:
        """group: query heads of a key-value head."""
        self._function = function
        entries, size = cache.data.shape[3:]
        tasks = _tasks(sight.counts, function.rows // group)
        offset = sight.counts.cumsum() - sight.counts
        # What the function reads by address has to live as long as this.
        self._arrays = [
            np.ascontiguousarray(x, np.int64)
            for x in (tasks, offset, sight.entry, sight.before, sight.oldest, sight.extent)
        ]
        self._inside = np.ascontiguousarray(sight.inside)
        self._plan = _Plan(
            *(x.ctypes.data for x in self._arrays),
            self._inside.ctypes.data,
            *(len(tasks), *self._inside.shape[1:], cache.kv_heads, group, size, entries * size),
        )
        self._out = cache.data.new_empty(int(sight.counts.sum()), cache.kv_heads * group, size)

    def __call__(self, query: Tensor, cache: KVCache, layer: int) -> Tensor:
        """query [M, heads, head_dim] to [M, heads, head_dim], interleaved heads.

        The next call writes where this one did.
        """
        data = cache.data  # [layers, 2, kv_heads, entries, head_dim]
        keys = data.data_ptr() + layer * data.stride(0) * data.itemsize
        self._function.attend(
            ctypes.byref(self._plan),
            query.data_ptr(),
            query.stride(0),
            keys,
            keys + data.stride(1) * data.itemsize,
            self._out.data_ptr(),
            torch.get_num_threads(),
        )
        return self._out


@cache
def load_ragged() -> RaggedFunction | None:
    """The function, compiled if need be; None where that cannot be done or it errs."""
    library = load_c_library(SOURCE)
    function = None if library is None else RaggedFunction(library)
    return function if function is not None and _is_right(function) else None


def _tasks(counts: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """int64 [tasks, 3]: request, first token and number of tokens, at most so many each."""
    parts = -(-counts // most)
    request = np.repeat(np.arange(len(counts)), parts)
    part = np.arange(len(request)) - (parts.cumsum() - parts)[request]
    start = part * counts[request] // parts[request]
    stop = (part + 1) * counts[request] // parts[request]
    first = (counts.cumsum() - counts)[request] + start
    return np.stack([request, first, stop - start], axis=1)


def _is_right(function: RaggedFunction) -> bool:
    """Whether it gives what torch does for a few tokens over some blocks of slots."""
    shape, tokens, before = named_shape("tiny-llama"), 4, 150
    group, total = shape.heads // shape.kv_heads, before + tokens
    cache = KVCache(shape, 1, total, torch.float32, torch.device("cpu"))
    cache.data.copy_(torch.linspace(-2, 2, cache.data.numel()).sin().view_as(cache.data))
    inside = np.tri(tokens, dtype=np.bool_)
    sight = Sight(
        counts=np.array([tokens]),
        entry=np.zeros(1, np.int64),
        before=np.array([before]),
        oldest=np.zeros(tokens, np.int64),
        inside=inside[None],
        extent=before + 1 + np.arange(tokens),
    )
    query = torch.linspace(-1, 1, tokens * shape.heads * shape.head_dim)
    query = query.view(tokens, shape.heads, shape.head_dim)
    found = RaggedAttention(function, sight, cache, group)(query, cache, 0)
    keys, values = (x[:, :total].repeat(group, 1, 1) for x in cache.data[0])
    seen = torch.from_numpy(np.pad(inside, ((0, 0), (before, 0)), constant_values=True))
    expected = F.scaled_dot_product_attention(query.transpose(0, 1), keys, values, attn_mask=seen)
    return bool((found - expected.transpose(0, 1)).abs().max() <= TOLERANCE)

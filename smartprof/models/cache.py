"""Keys and values of committed tokens, preallocated, one region per request of the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from smartprof.errors import InputError
from smartprof.models.shapes import ModelShape


class KVCache:
    """Per-layer keys and values: each [layers, kv_heads, batch * columns, head_dim].

    One head of one request is contiguous, so that attention reads memory in order. Request
    ``r`` owns the flat entries ``r * columns ... (r + 1) * columns - 1``; entry ``c`` of them holds
    the token at slot ``c``. The last column is scratch: padding tokens write there and
    nobody reads it.
    """

    def __init__(
        self, shape: ModelShape, batch: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.batch = batch
        self.capacity = capacity
        self.columns = capacity + 1
        size = (shape.layers, shape.kv_heads, batch * self.columns, shape.head_dim)
        # Zeros, not empty: masked entries are multiplied by a weight of zero, and 0 * NaN is NaN.
        self.keys = torch.zeros(size, dtype=dtype, device=device)
        self.values = torch.zeros(size, dtype=dtype, device=device)

    def require(self, tokens: int) -> None:
        """Raise if one request cannot hold this many tokens."""
        if tokens > self.capacity:
            raise InputError(
                f"a request needs room for {tokens} tokens, the cache holds {self.capacity}: "
                "shorten the prompt or --max-new-tokens"
            )

    def write(self, layer: int, entries: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store keys and values [M, kv_heads, head_dim] at flat entries [M]."""
        self.keys[layer].index_copy_(1, entries, keys.transpose(0, 1))
        self.values[layer].index_copy_(1, entries, values.transpose(0, 1))

    def view(self, layer: int, rows: slice, length: int) -> tuple[Tensor, Tensor]:
        """Keys and values of some requests, each [rows, kv_heads, length, head_dim], no copy."""
        keys, values = self._by_request(self.keys[layer]), self._by_request(self.values[layer])
        return keys[:, rows, :length].transpose(0, 1), values[:, rows, :length].transpose(0, 1)

    def move(self, source: Tensor, target: Tensor) -> None:
        """Copy flat entries [k] to flat entries [k] in every layer, through a temporary."""
        self.keys[:, :, target] = self.keys[:, :, source]
        self.values[:, :, target] = self.values[:, :, source]

    def move_row(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` slots of one request over another's."""
        for data in (self.keys, self.values):
            rows = self._by_request(data)
            rows[..., target, :length, :] = rows[..., source, :length, :]

    def _by_request(self, data: Tensor) -> Tensor:
        """[..., kv_heads, batch * columns, head_dim] seen as [..., batch, columns, head_dim]."""
        return data.unflatten(-2, (self.batch, self.columns))

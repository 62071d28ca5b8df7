"""Keys and values of committed tokens, preallocated, one region per request of the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from smartprof.errors import InputError
from smartprof.models.shapes import ModelShape


class KVCache:
    """Per-layer keys and values in one tensor [layers, 2, kv_heads, batch * columns, head_dim].

    One head of one request is contiguous, so that attention reads memory in order. Request
    ``r`` owns the flat entries ``r * columns ... (r + 1) * columns - 1``; entry ``c`` of them holds
    the token at slot ``c``. The last column is scratch: padding tokens write there and
    nobody reads it.

    `taps` are layers whose input (the residual stream, [hidden]) is kept beside the keys, entry by
    entry, for a drafter that reads it: `features` is [batch * columns, len(taps) * hidden].
    """

    def __init__(
        self,
        shape: ModelShape,
        batch: int,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device,
        taps: Sequence[int] = (),
    ) -> None:
        self.batch, self.capacity, self.columns = batch, capacity, capacity + 1
        self.kv_heads, self.taps = shape.kv_heads, tuple(taps)
        entries = batch * self.columns
        # Zeros, not empty: masked entries are multiplied by a weight of zero, and 0 * NaN is NaN.
        self.data = torch.zeros(
            (shape.layers, 2, shape.kv_heads, entries, shape.head_dim), dtype=dtype, device=device
        )
        self.features = torch.zeros(
            (entries if taps else 0, len(self.taps) * shape.hidden), dtype=dtype, device=device
        )
        # Views of all layers at once: making them layer by layer takes longer than a copy.
        self._joined = self.data.flatten(1, 2)  # [layers, 2 * kv_heads, entries, head_dim]
        self._writable = self._joined.unbind()
        self._runs: dict[tuple[int, int], Sequence[Tensor]] = {}
        # [layers, batch, kv_heads, columns, head_dim] each
        by_request = self.data.unflatten(3, (batch, self.columns)).transpose(2, 3)
        self._keys, self._values = by_request[:, 0], by_request[:, 1]
        self._rows: dict[tuple[int, int, int, int], Sequence[tuple[Tensor, Tensor]]] = {}

    @property
    def device(self) -> torch.device:
        """Where the cache lies."""
        return self.data.device

    def require(self, tokens: int) -> None:
        """Raise if one request cannot hold this many tokens."""
        if tokens > self.capacity:
            raise InputError(
                f"a request needs room for {tokens} tokens, the cache holds {self.capacity}: "
                "shorten the prompt or --max-new-tokens"
            )

    def write(
        self, layer: int, entries: Tensor, keys_values: Tensor, first_entry: int | None = None
    ) -> None:
        """Store keys, then values, [2 * kv_heads, M, head_dim] at flat entries [M].

        first_entry: where the entries are a run that starts there, which is faster to write.
        """
        if first_entry is None:
            self._writable[layer].index_copy_(1, entries, keys_values)
        else:
            key = (first_entry, keys_values.shape[1])
            run = self._runs.get(key) or self._slice_run(key)
            run[layer].copy_(keys_values)

    def write_feature(self, layer: int, entries: Tensor, hidden: Tensor) -> None:
        """Store a tapped layer's input [M, hidden] at flat entries [M]."""
        place, size = self.taps.index(layer), hidden.shape[1]
        self.features[:, place * size : (place + 1) * size].index_copy_(0, entries, hidden)

    def view(self, layer: int, rows: slice, length: int) -> tuple[Tensor, Tensor]:
        """Keys and values of some requests, each [rows, kv_heads, length, head_dim], no copy."""
        key = (rows.start, rows.stop, rows.step or 1, length)
        return (self._rows.get(key) or self._slice_rows(key))[layer]

    def _slice_run(self, key: tuple[int, int]) -> Sequence[Tensor]:
        """First entry and count to every layer's entries, [2 * kv_heads, count, head_dim]."""
        first, count = key
        run = self._joined[:, :, first : first + count].unbind()
        self._runs = {key: run}  # of the latest pass
        return run

    def _slice_rows(self, key: tuple[int, int, int, int]) -> Sequence[tuple[Tensor, Tensor]]:
        """Start, stop and step of rows, and length, to every layer's keys and values."""
        rows, length = slice(*key[:3]), key[3]
        keys, values = (x[:, rows, :, :length] for x in (self._keys, self._values))
        views = list(zip(keys.unbind(), values.unbind(), strict=True))
        if len(self._rows) > 2 * self.batch:  # one pass asks for at most `batch` of them
            self._rows.clear()
        self._rows[key] = views
        return views

    def move(self, source: Tensor, target: Tensor) -> None:
        """Copy flat entries [k] to flat entries [k] in every layer, through a temporary."""
        self.data[:, :, :, target] = self.data[:, :, :, source]
        if self.taps:
            self.features[target] = self.features[source]

    def move_row(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` slots of one request over another's."""
        from_, to = source * self.columns, target * self.columns
        self.data[..., to : to + length, :] = self.data[..., from_ : from_ + length, :]
        if self.taps:
            self.features[to : to + length] = self.features[from_ : from_ + length]

"""A pass of fixed shape: inputs written in place, then a function that reads nothing else.

Run twice on the same inputs it does the same, so it can be recorded once and replayed. Knows
nothing about CUDA beyond where its buffers lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smartprof.models.attention import PaddedAttention
from smartprof.models.backends import attention_backends
from smartprof.models.buckets import Bucket
from smartprof.models.cache import KVCache
from smartprof.models.inputs import (
    HIDDEN,
    InputLayout,
    PackedInput,
    Places,
    Tokens,
    folded_mask,
)

# What runs over the tokens of one pass; every result has them first, [M, ...]. Its other inputs
# must stay at their addresses, and running it twice must leave the state that running it once does.
PassFunction = Callable[[PackedInput], tuple[Tensor, ...]]


class Field(NamedTuple):
    """One input: its name, its shape, and whether it is a flag (bool) or a number (int64)."""

    name: str
    shape: tuple[int, ...]
    flag: bool = False


class StaticInputs:
    """The inputs of a pass of one shape, at fixed addresses, filled by one transfer.

    Every field is a view of one buffer on the device and of one on the host, which is pinned where
    the device is a GPU.
    """

    def __init__(self, bucket: Bucket, cache: KVCache, layout: InputLayout) -> None:
        self.bucket, self._cache, self._layout = bucket, cache, layout
        fields = _fields(bucket, layout)
        size = sum(_bytes(x) for x in fields)
        pinned = cache.device.type == "cuda"
        self._staged = torch.zeros(size, dtype=torch.uint8, pin_memory=pinned)
        self._buffer = torch.zeros(size, dtype=torch.uint8, device=cache.device)
        self._host = {x: y.numpy() for x, y in _views(self._staged, fields).items()}
        self._device = _views(self._buffer, fields)
        self._slots = torch.arange(bucket.context, device=cache.device)
        self._sent = torch.cuda.Event() if pinned else None

    @property
    def device(self) -> torch.device:
        """Where the pass runs."""
        return self._cache.device

    def fill(self, tokens: Tokens) -> None:
        """Write the inputs of a pass; the transfer to a GPU is started, not waited for."""
        if self._sent is not None:
            self._sent.synchronize()  # the transfer before this one may still read
        count, batch = len(tokens.token), len(tokens.counts)
        self._write("tokens", tokens.token, 0)
        self._write("positions", tokens.position, 0)
        # Padding tokens write to the scratch column and are never read.
        entries = tokens.entries(self._cache.columns)
        self._write("entries", entries, self._cache.columns - 1)
        self._write("before", tokens.before, 0)
        _, width, span = tokens.inside.shape
        inside = self._host["inside"]
        inside.fill(False)
        inside[:batch, :width, :span] = tokens.inside
        if self._layout.window is not None:
            self._host["inside_position"][:batch, :span] = tokens.inside_position
        if self.bucket.mapped:
            places = Places.even(len(tokens.counts), self.bucket.width)
            self._write("gather", places.gather(tokens), count - 1)
            self._write("scatter", places.scatter(tokens), 0)
        self._send()

    def packed(self) -> PackedInput:
        """The pass as its buffers say. Everything after them is computed on the device."""
        bucket, inputs = self.bucket, self._device
        plan = PaddedAttention(
            rows=slice(0, bucket.rows),
            kv_len=bucket.context,
            width=bucket.width,
            mask=self._mask(),
            gather=inputs.get("gather"),
            scatter=inputs.get("scatter"),
        )
        return PackedInput(inputs["tokens"], inputs["positions"], inputs["entries"], plan)

    def _write(self, name: str, values: NDArray[np.int64], fill: int) -> None:
        field = self._host[name]
        field[: len(values)] = values
        field[len(values) :] = fill

    def _send(self) -> None:
        self._buffer.copy_(self._staged, non_blocking=True)
        if self._sent is not None:
            self._sent.record(torch.cuda.current_stream(self._cache.device))

    def _mask(self) -> Tensor:
        """Float [rows, 1, width * group, context], as `PaddedAttention` wants it. No row is empty.

        A slot before the committed length is seen; one behind it is looked up in `inside`.
        """
        width = self.bucket.width
        behind = self._slots - self._device["before"].unsqueeze(1)  # [rows, context]
        own = (behind >= 0) & (behind < self.bucket.span)
        place = behind.clamp(0, self.bucket.span - 1)
        looked_up = place.unsqueeze(1).expand(-1, width, -1)  # [rows, width, context]
        seen = self._device["inside"].gather(2, looked_up) & own.unsqueeze(1)
        seen |= (behind < 0).unsqueeze(1)
        if self._layout.window is not None:
            seen &= self._within(self._layout.window, own, place)
        seen[:, :, 0] |= ~seen.any(2)
        added = torch.zeros(seen.shape, dtype=self._cache.data.dtype, device=seen.device)
        return folded_mask(added.masked_fill_(~seen, HIDDEN), self._layout.group)

    def _within(self, window: int, own: Tensor, place: Tensor) -> Tensor:
        """bool [rows, width, context]: slots whose position a token's window reaches.

        Committed tokens lie at their own position, those behind may not.
        """
        positions = self._device["positions"]
        maps = self._device.get("gather")
        by_place = positions if maps is None else positions[maps]  # [rows * width]
        oldest = by_place.view(self.bucket.rows, self.bucket.width, 1) - window + 1
        inside = self._device["inside_position"].gather(1, place)
        return torch.where(own, inside, self._slots).unsqueeze(1) >= oldest


class Outputs:
    """Results at fixed addresses, shared by passes that are never needed at the same time."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[int, torch.Size, torch.dtype], Tensor] = {}

    def store(self, place: int, value: Tensor) -> Tensor:
        """Copy result number `place`, [M, ...], into its buffer; returns the view that holds it.

        A buffer that is too small is replaced by one twice as large; views of the old one stay.
        """
        count, key = len(value), (place, value.shape[1:], value.dtype)
        buffer = self._buffers.get(key)
        if buffer is None or len(buffer) < count:
            buffer = value.new_empty((1 << (count - 1).bit_length(), *value.shape[1:]))
            self._buffers[key] = buffer
        return buffer[:count].copy_(value)


class StaticPass:
    """Inputs and outputs at fixed addresses, and the function between them."""

    def __init__(self, inputs: StaticInputs, function: PassFunction, outputs: Outputs) -> None:
        self.inputs, self._function, self._outputs = inputs, function, outputs
        self.results: tuple[Tensor, ...] = ()

    def compute(self) -> None:
        """Inputs to `results`."""
        with attention_backends(self.inputs.device):
            found = self._function(self.inputs.packed())
        self.results = tuple(self._outputs.store(x, y) for x, y in enumerate(found))


def _fields(bucket: Bucket, layout: InputLayout) -> list[Field]:
    """All inputs of a shape; numbers come first, so that each lies at a multiple of its size."""
    places = bucket.rows * bucket.width
    numbers = [
        *(Field(x, (bucket.tokens,)) for x in ("tokens", "positions", "entries")),
        Field("before", (bucket.rows,)),
    ]
    if bucket.mapped:
        numbers += [Field("gather", (places,)), Field("scatter", (bucket.tokens,))]
    if layout.window is not None:
        numbers.append(Field("inside_position", (bucket.rows, bucket.span)))
    return [*numbers, Field("inside", (bucket.rows, bucket.width, bucket.span), flag=True)]


def _bytes(field: Field) -> int:
    return math.prod(field.shape) * (1 if field.flag else 8)


def _views(buffer: Tensor, fields: list[Field]) -> dict[str, Tensor]:
    """Each field's part of a buffer of bytes."""
    parts = buffer.split([_bytes(x) for x in fields])
    return {
        x.name: part.view(torch.bool if x.flag else torch.int64).view(x.shape)
        for x, part in zip(fields, parts, strict=True)
    }

"""Index arrays from the host to a device, in as few transfers as there can be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def send(arrays: Sequence[NDArray[np.int64]], device: torch.device) -> list[Tensor]:
    """int64 arrays [n] as tensors on a device; to a GPU all of them in one transfer.

    The transfer starts from pinned memory and waits for nothing; the allocator keeps that memory
    until it is done.
    """
    if device.type == "cpu":
        return [torch.from_numpy(np.ascontiguousarray(x)) for x in arrays]
    return split(joined(arrays, pin=True).to(device, non_blocking=True), arrays)


def joined(arrays: Sequence[NDArray[np.int64]], *, pin: bool) -> Tensor:
    """All arrays one after the other, int64 [sum of n], in pinned memory if asked for."""
    flat = torch.empty(sum(map(len, arrays)), dtype=torch.int64, pin_memory=pin)
    np.concatenate(arrays, out=flat.numpy())
    return flat


def split(flat: Tensor, arrays: Sequence[NDArray[np.int64]]) -> list[Tensor]:
    """The parts of what `joined` made, in order; views."""
    return list(flat.split([len(x) for x in arrays]))

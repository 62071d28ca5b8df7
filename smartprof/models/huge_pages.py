"""Tensors for weights that every pass reads from memory once, on huge pages where Linux has them.

Pages of 4 KiB cost a walk through the page tables each, twofold in a virtual machine, and stop the
processor's reading ahead. Only memory that is written to becomes resident.
"""

from __future__ import annotations

import mmap
import weakref

import torch
from torch import Tensor

CHUNK_BYTES = 64 << 20  # of addresses that tensors share, so that pages reach over their ends
PAGE_BYTES = 2 << 20
LINE_BYTES = 64  # of a processor's cache; tensors begin with one


class HugePages:
    """Hands out parts of chunks, which are freed with the last tensor that lies in them."""

    def __init__(self) -> None:
        self._chunk: weakref.ref[mmap.mmap] | None = None
        self._used = 0

    def empty(self, count: int) -> Tensor:
        """A float32 tensor [count] that holds anything; an ordinary one where this fails."""
        size = -(-4 * count // LINE_BYTES) * LINE_BYTES
        chunk = None if self._chunk is None else self._chunk()
        if chunk is None or self._used + size > len(chunk):
            try:
                chunk = self._map(size)
            except (OSError, AttributeError):  # no such memory, or not Linux
                return torch.empty(count)
        found = torch.frombuffer(chunk, dtype=torch.float32, count=count, offset=self._used)
        self._used += size
        return found

    def _map(self, least: int) -> mmap.mmap:
        """A new chunk to take from, of `least` bytes at least."""
        size = max(CHUNK_BYTES, -(-least // PAGE_BYTES) * PAGE_BYTES) + PAGE_BYTES
        chunk = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        chunk.madvise(mmap.MADV_HUGEPAGE)
        start = torch.frombuffer(chunk, dtype=torch.uint8).data_ptr()
        self._chunk, self._used = weakref.ref(chunk), -start % PAGE_BYTES
        return chunk


HUGE_PAGES = HugePages()

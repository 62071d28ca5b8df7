from __future__ import annotations

import gc
import re
from pathlib import Path

import pytest
import torch

from smartprof.models import huge_pages
from smartprof.models.huge_pages import LINE_BYTES, PAGE_BYTES, HugePages

SMAPS = Path("/proc/self/smaps")
SYSTEM = Path("/sys/kernel/mm/transparent_hugepage")


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> HugePages:
    monkeypatch.setattr(huge_pages, "CHUNK_BYTES", 2 * PAGE_BYTES)
    return HugePages()


def advised(tensor: torch.Tensor) -> bool:
    """Whether the system was told to put it on huge pages."""
    flags = ""
    for line in reversed(SMAPS.read_text().splitlines()):
        if line.startswith("VmFlags:"):
            flags = line
        elif found := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            start, end = (int(x, 16) for x in found.groups())
            if start <= tensor.data_ptr() < end:
                return "hg" in flags.split()
    return False


def test_tensors_begin_with_a_line_and_overlap_nowhere(pages: HugePages) -> None:
    """Of any size, over several chunks."""
    sizes = (1, 16, 17, 1000, PAGE_BYTES // 4, 3 * PAGE_BYTES // 4 + 5, 1, PAGE_BYTES)
    tensors = [pages.empty(size).fill_(i) for i, size in enumerate(sizes)]
    assert [len(x) for x in tensors] == list(sizes)
    assert all(bool((x == i).all()) for i, x in enumerate(tensors))
    assert all(x.data_ptr() % LINE_BYTES == 0 for x in tensors)


@pytest.mark.skipif(not SYSTEM.exists(), reason="the system has no transparent huge pages")
def test_they_lie_on_huge_pages(pages: HugePages) -> None:
    """Torch's own memory, the negative control, does not."""
    first, second = pages.empty(100), pages.empty(PAGE_BYTES)
    assert first.data_ptr() % PAGE_BYTES == 0
    assert advised(first) and advised(second) and not advised(torch.empty(PAGE_BYTES))


def test_memory_is_freed_with_the_last_tensor_in_it(pages: HugePages) -> None:
    tensors = [pages.empty(10).fill_(i) for i in range(2)]
    chunk = pages._chunk
    assert chunk is not None and chunk() is not None
    tensors.pop(0)
    gc.collect()
    assert chunk() is not None and bool((tensors[0] == 1).all())
    tensors.pop()
    gc.collect()
    assert chunk() is None
    assert bool((pages.empty(3).fill_(3) == 3).all())


@pytest.mark.parametrize("error", [OSError, AttributeError], ids="{0.__name__}".format)
def test_without_them_there_is_ordinary_memory(
    pages: HugePages, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(huge_pages.mmap, "mmap", fails)
    assert bool((pages.empty(7).fill_(7) == 7).all())

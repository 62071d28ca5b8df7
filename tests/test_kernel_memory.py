from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smartprof.device import Device
from smartprof.models.grouping import AttentionCosts, CallCosts
from smartprof.models.kernel_memory import Choice, KernelMemory, Passes, open_memory
from smartprof.models.kernels import Kernels
from smartprof.models.user_cache import CACHE_VARIABLE

CPU = Device("cpu", None, "Some CPU", "0123", 2**34, "AVX2", None, 2, "cpu")
TORCH = "2.9.0"
PASSES = Passes("float32", ((40, 24), (24, 40), (40, 24)), heads=4, kv_heads=2, head_dim=8)
CHOICE = Choice(
    {
        (40, 24): Kernels((1, 4, 6, 9), ("padded", "packed", "mkl8", "plain")),
        (24, 40): Kernels((1,), ("packed",)),
    },
    AttentionCosts(CallCosts(2.5e-5, 1e-8, 0.0), CallCosts(1 / 3e4, 2e-8, 1e-9)),
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr("smartprof.models.kernel_memory.load_average", lambda: 0.5)
    return tmp_path


def only_file(cache: Path) -> Path:
    (found,) = cache.rglob("*.*")
    return found


def test_what_is_kept_is_recalled_by_the_next_process(cache: Path) -> None:
    open_memory(CPU, TORCH).keep(PASSES, CHOICE)
    assert only_file(cache).parent == cache / "kernels"
    assert open_memory(CPU, TORCH).recall(PASSES) == CHOICE


@pytest.mark.parametrize(
    "other",
    [
        replace(CPU, name="Another CPU"),
        replace(CPU, uuid_digest="4567"),
        replace(CPU, capability="AVX512"),
        replace(CPU, threads=1),
    ],
    ids=["name", "machine", "capability", "threads"],
)
def test_another_processor_knows_nothing(other: Device) -> None:
    open_memory(CPU, TORCH).keep(PASSES, CHOICE)
    assert open_memory(other, TORCH).recall(PASSES) is None


@pytest.mark.parametrize(
    "other",
    [
        replace(PASSES, dtype="bfloat16"),
        replace(PASSES, linears=PASSES.linears[:2]),
        replace(PASSES, linears=((24, 40), (40, 24), (40, 24))),
        replace(PASSES, heads=2),
        replace(PASSES, kv_heads=4),
        replace(PASSES, head_dim=16),
    ],
    ids=["dtype", "number", "order", "heads", "kv_heads", "head_dim"],
)
def test_nothing_is_known_of_other_passes(other: Passes) -> None:
    open_memory(CPU, TORCH).keep(PASSES, CHOICE)
    assert open_memory(CPU, TORCH).recall(other) is None


def test_another_torch_or_another_format_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    open_memory(CPU, TORCH).keep(PASSES, CHOICE)
    assert open_memory(CPU, "2.9.1").recall(PASSES) is None
    monkeypatch.setattr("smartprof.models.kernel_memory.FORMAT", 0)
    assert open_memory(CPU, TORCH).recall(PASSES) is None


def test_measuring_anew_recalls_only_what_was_measured_since() -> None:
    """A draft model of the target's sizes then runs as the target does."""
    open_memory(CPU, TORCH).keep(PASSES, CHOICE)
    anew = open_memory(CPU, TORCH, anew=True)
    assert anew.recall(PASSES) is None
    other = Choice({**CHOICE.kernels, (24, 40): Kernels()}, CHOICE.attention)
    anew.keep(PASSES, other)
    assert anew.recall(PASSES) == other
    assert open_memory(CPU, TORCH).recall(PASSES) == other


def test_what_is_measured_beside_other_work_lasts_only_if_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smartprof.models.kernel_memory.load_average", lambda: 1.5)
    here = open_memory(CPU, TORCH)
    here.keep(PASSES, CHOICE)
    assert here.recall(PASSES) == CHOICE
    assert open_memory(CPU, TORCH).recall(PASSES) is None
    open_memory(CPU, TORCH, anew=True).keep(PASSES, CHOICE)
    assert open_memory(CPU, TORCH).recall(PASSES) == CHOICE


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[str], bytes]:
    def edit(text: str) -> bytes:
        content = json.loads(text)
        change(content)
        return json.dumps(content).encode()

    return edit


def kernels(counts: list[Any], ways: list[Any]) -> Callable[[str], bytes]:
    return changed(lambda x: x["kernels"].update({"24x40": {"counts": counts, "ways": ways}}))


def attention(**costs: Any) -> Callable[[str], bytes]:
    return changed(lambda x: x["attention"]["alone"].update(costs))


DAMAGE = {
    "nothing": lambda _: b"",
    "cut short": lambda x: x[: len(x) // 2].encode(),
    "no text": lambda _: b"\xff\xfe\x00",
    "a list": lambda _: b"[]",
    "deep": lambda _: b"[" * 100_000,
    "another key": changed(lambda x: x["key"].update(dtype="bfloat16")),
    "no kernels": changed(lambda x: x.pop("kernels")),
    "a size is missing": changed(lambda x: x["kernels"].pop("24x40")),
    "kernels of another type": changed(lambda x: x.update(kernels=[1])),
    "unknown way": kernels([1], ["fastest"]),
    "no way": kernels([], []),
    "not from 1": kernels([2], ["packed"]),
    "descending": kernels([1, 8, 4], ["packed", "plain", "packed"]),
    "unequal lengths": kernels([1, 4], ["packed"]),
    "fractions": kernels([1, 4.5], ["packed", "plain"]),
    "words": kernels([1, "4"], ["packed", "plain"]),
    "an endless tile": kernels([1], ["mkl16"]),
    "a tile too small": kernels([1, 8, 10], ["packed", "mkl8", "packed"]),
    "padding too small": kernels([1, 6], ["padded", "packed"]),
    "no attention": changed(lambda x: x.pop("attention")),
    "half of attention": changed(lambda x: x["attention"].pop("together")),
    "a cost too many": attention(other_seconds=1.0),
    "negative": attention(call_seconds=-1.0),
    "not a number": attention(slot_seconds=float("nan")),
    "infinite": attention(pair_seconds=float("inf")),
    "a word": attention(pair_seconds="1"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_no_choice_and_is_replaced(
    cache: Path, damage: Callable[[str], bytes]
) -> None:
    open_memory(CPU, TORCH).keep(PASSES, CHOICE)
    path = only_file(cache)
    path.write_bytes(damage(path.read_text()))
    memory = open_memory(CPU, TORCH)
    assert memory.recall(PASSES) is None
    memory.keep(PASSES, CHOICE)
    assert open_memory(CPU, TORCH).recall(PASSES) == CHOICE


def test_damage_is_seen_in_content_that_is_otherwise_right(cache: Path) -> None:
    """Negative control: rewriting the file alone does not make it unreadable."""
    open_memory(CPU, TORCH).keep(PASSES, CHOICE)
    path = only_file(cache)
    path.write_bytes(kernels([1, 6, 9], ["packed", "mkl8", "packed"])(path.read_text()))
    found = open_memory(CPU, TORCH).recall(PASSES)
    assert found is not None
    assert str(found.kernels[24, 40]) == "packed from 1, mkl8 from 6, packed from 9 tokens"


@pytest.mark.parametrize("blocked", ["kernels", "kernels/file"])
def test_a_cache_that_cannot_be_written_to_is_no_error(tmp_path: Path, blocked: str) -> None:
    """Not even for root, who may write anywhere: a file is where a folder should be."""
    path = tmp_path / blocked
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    memory = KernelMemory({}, path)
    memory.keep(PASSES, CHOICE)
    assert memory.recall(PASSES) == CHOICE
    assert KernelMemory({}, path).recall(PASSES) is None

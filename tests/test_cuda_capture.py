"""The order of CUDA calls around a recording, with a CUDA that only takes notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from smartprof.models.cuda_capture import WARM_UPS, CudaCapture


class Notes:
    """Stands in for `torch.cuda`. A run notes the stream it is on and whether it is recorded."""

    def __init__(self) -> None:
        self.current = "main"
        self.recording = False
        self.calls: list[str] = []
        self.pools: list[object] = []

    def module(self) -> SimpleNamespace:
        return SimpleNamespace(
            device=self.device,
            Stream=lambda _: SimpleNamespace(
                name="side", wait_stream=lambda x: self.calls.append(f"side waits for {x.name}")
            ),
            graph_pool_handle=lambda: "pool",
            current_device=lambda: 0,
            current_stream=lambda *_: SimpleNamespace(name=self.current),
            stream=self.stream,
            synchronize=lambda: self.calls.append("synchronise"),
            CUDAGraph=lambda: SimpleNamespace(replay=lambda: self.calls.append("replay")),
            graph=self.graph,
        )

    @contextmanager
    def device(self, _: torch.device) -> Iterator[None]:
        yield

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before, self.current = self.current, stream.name
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, _: object, *, pool: object, stream: Any, **__: str) -> Iterator[None]:
        """As torch does, leaves the side stream current when a recording fails."""
        self.pools.append(pool)
        before, self.current, self.recording = self.current, stream.name, True
        try:
            yield
        finally:
            self.recording = False
        self.current = before

    def run(self) -> None:
        self.calls.append(f"{'record' if self.recording else 'run'} on {self.current}")


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    made = Notes()
    monkeypatch.setattr(torch, "cuda", made.module())
    return made


def test_a_function_warms_up_on_the_stream_that_records_it_and_is_replayed_once(
    notes: Notes,
) -> None:
    capture = CudaCapture(torch.device("cpu"))
    notes.calls.clear()
    replay = capture(notes.run)
    assert notes.calls == [
        "side waits for main",
        *["run on side"] * WARM_UPS,
        "synchronise",
        "record on side",
        "replay",
        "synchronise",
    ]
    replay()
    assert notes.calls[-1] == "replay"
    assert notes.pools == ["pool", "pool"]  # the anchor's, and the same for this one


def test_a_recording_that_fails_leaves_the_stream_and_the_allocator_as_they_were(
    notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[tuple[int, object]] = []

    def end(device: int, pool: object) -> None:
        ended.append((device, pool))
        raise RuntimeError("not recording to this pool")

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end, raising=False)
    capture = CudaCapture(torch.device("cpu"))

    def unsupported() -> None:
        if notes.recording:
            raise RuntimeError("operation not permitted")

    with pytest.raises(RuntimeError, match="operation not permitted"):
        capture(unsupported)
    assert notes.current == "main"
    assert ended == [(0, "pool")]
    run: Callable[[], None] = notes.run
    capture(run)
    assert notes.calls[-2:] == ["replay", "synchronise"]

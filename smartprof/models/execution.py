"""How the passes of a run go: eagerly or as captured CUDA graphs, and what falls back to what."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from smartprof.errors import InputError
from smartprof.models.buckets import CAPTURE_SIZES, Grid, aligned_capacity
from smartprof.models.cache import KVCache
from smartprof.models.cuda_capture import CudaCapture
from smartprof.models.inputs import InputLayout, chain_tokens
from smartprof.models.runners import CapturePool, EagerRunner, GraphRunner, PassRunner, reason
from smartprof.models.static_pass import PassFunction
from smartprof.models.transformer import Transformer

ExecutionName = Literal["eager", "cuda_graph"]


@dataclass(frozen=True)
class Execution:
    """How the passes of a run go: eagerly without a pool, else captured.

    exact_rows: capture every batch size by itself, as a measurement needs it; otherwise a batch
    that shrinks is padded to the requests that its cache has room for.
    """

    pool: CapturePool | None = None
    exact_rows: bool = False

    @property
    def name(self) -> ExecutionName:
        """What a profile's key says."""
        return "eager" if self.pool is None or self.pool.failure else "cuda_graph"

    @property
    def capture_sizes(self) -> list[int]:
        """What a profile's key says."""
        return [] if self.name == "eager" else list(CAPTURE_SIZES)

    def clock(self) -> float:
        """Seconds of a clock that stands still while passes are captured."""
        return time.perf_counter() - (0.0 if self.pool is None else self.pool.setup_seconds)

    def capacity(self, wanted: int) -> int:
        """Capacity to give a cache that must hold so many tokens a request."""
        return wanted if self.pool is None else aligned_capacity(wanted)

    def runner(
        self, function: PassFunction, cache: KVCache, layout: InputLayout, name: str
    ) -> PassRunner:
        """A runner for a function whose passes write to this cache.

        function: holds what it reads besides its input, but not the owner of the runner. name: of
        runners whose results are never needed at the same time, such as the targets of a run.
        """
        eager = EagerRunner(function, cache, layout)
        if self.pool is None:
            return eager
        grid = Grid(cache.columns, rows=1 if self.exact_rows else cache.batch)
        return GraphRunner(function, cache, layout, eager, grid, self.pool, name)


EAGER = Execution()


def choose_execution(asked: str, device_kind: str) -> ExecutionName:
    """What the user wrote after `--execution`, for a device of this kind ("cpu" or "cuda").

    Raises InputError for an unknown name, and for graphs without a GPU.
    """
    if asked not in ("auto", *get_args(ExecutionName)):
        raise InputError(f"expected --execution auto, eager or cuda_graph, got {asked!r}")
    if asked == "cuda_graph" and device_kind != "cuda":
        raise InputError(
            f"--execution cuda_graph needs a GPU, the device is a {device_kind}: use --execution "
            "eager or auto"
        )
    if asked == "auto":
        return "cuda_graph" if device_kind == "cuda" else "eager"
    return asked  # type: ignore[return-value]


def open_execution(asked: str, model: Transformer, say: Callable[[str], None]) -> Execution:
    """How passes of this model will run: as asked if that can be, else eagerly, which is said.

    A pass of one token is captured to find out.
    """
    if choose_execution(asked, model.device.type) == "eager":
        return EAGER
    try:
        pool = CapturePool(CudaCapture(model.device), say)
    except RuntimeError as error:
        say(f"CUDA graphs cannot be captured here ({reason(error)}): passes run eagerly")
        return EAGER
    execution = Execution(pool)
    probe(model, execution)
    return execution


def probe(model: Transformer, execution: Execution) -> None:
    """Capture a pass of one token over a cache of its own; a failure is noted in the pool."""
    cache = KVCache(model.shape, 1, execution.capacity(1), model.dtype, model.device)
    runner = execution.runner(model_pass(model, cache), cache, model.layout, name="probe")
    runner.run(chain_tokens(np.zeros(1, np.int64), 0, 0), 1)


def model_pass(model: Transformer, cache: KVCache) -> PassFunction:
    """Tokens to logits [M, vocab] of the next ones."""
    return lambda batch: (model.logits(model.forward(batch, cache)),)

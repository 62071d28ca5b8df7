"""Runners of passes: eager, or by captured graphs, one for each shape of a grid.

A captured pass holds the addresses of its cache, weights, inputs and outputs. None of them may
move while it lives: never replace a tensor of a model or a cache that a runner was made for.
Captured passes belong to their runner and go with it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakSet

import torch
from torch import Tensor

from smartprof.models.backends import attention_backends
from smartprof.models.buckets import Bucket, Grid
from smartprof.models.cache import KVCache
from smartprof.models.inputs import InputLayout, Tokens, packed_input
from smartprof.models.static_pass import Outputs, PassFunction, StaticInputs, StaticPass

MOST_CAPTURED = 256  # captured passes of one pool; each holds some MB of the driver's memory

# Turns a function of fixed tensors into one that repeats it.
Capture = Callable[[Callable[[], None]], Callable[[], None]]


class PassRunner(ABC):
    """Runs one function over the tokens of a pass."""

    @abstractmethod
    def run(self, tokens: Tokens, pad_to: int) -> tuple[Tensor, ...]:
        """The function's results, each [at least M, ...]; those of the M tokens come first.

        pad_to: tokens to run at least. Results hold until the next pass of a runner of the same
        name on the same pool.
        """


class EagerRunner(PassRunner):
    """Runs the function as it stands; what captured passes are compared with."""

    def __init__(self, function: PassFunction, cache: KVCache, layout: InputLayout) -> None:
        self._function, self._cache, self._layout = function, cache, layout

    @torch.inference_mode()
    def run(self, tokens: Tokens, pad_to: int) -> tuple[Tensor, ...]:
        """As the base says."""
        size = max(pad_to, len(tokens.token))
        with attention_backends(self._cache.device):
            return self._function(packed_input(self._cache, tokens, self._layout, size))


@dataclass(eq=False)
class Captured:
    """A static pass, what replays it, and when it last ran (in passes of the pool)."""

    static: StaticPass
    replay: Callable[[], None]
    used: int


class CapturePool:
    """What the captured passes of one device share.

    setup_seconds: spent on capturing so far. failure: why captures are given up, or None.
    """

    def __init__(self, capture: Capture, on_failure: Callable[[str], None]) -> None:
        """on_failure: told once, in one line, why passes run eagerly from then on."""
        self.setup_seconds = 0.0
        self.failure: str | None = None
        self._capture, self._on_failure = capture, on_failure
        self._outputs: dict[str, Outputs] = {}
        self._runners: WeakSet[GraphRunner] = WeakSet()
        self._passes = 0

    def join(self, runner: GraphRunner) -> Outputs:
        """Count a runner's captured passes; returns the outputs of all runners of its name."""
        self._runners.add(runner)
        return self._outputs.setdefault(runner.name, Outputs())

    def next_pass(self) -> int:
        """The number of the pass that runs next."""
        self._passes += 1
        return self._passes

    def capture(self, static: StaticPass) -> Callable[[], None] | None:
        """What replays the pass, whose inputs are filled; None if it cannot be captured."""
        start = time.perf_counter()
        try:
            self._make_room()
            return self._capture(static.compute)
        except RuntimeError as error:  # torch's own of any kind: driver, operator, memory
            self.failure = reason(error)
            shape = static.inputs.bucket
            self._on_failure(
                f"a pass of {shape.tokens} tokens, {shape.rows} requests and context "
                f"{shape.context} cannot be captured ({self.failure}): passes run eagerly from "
                "here on, and timings are no longer those of captured ones"
            )
            return None
        finally:
            self.setup_seconds += time.perf_counter() - start

    def _make_room(self) -> None:
        """Drop the pass that was not used for longest, if there are too many."""
        held = [(y.used, x, shape) for x in self._runners for shape, y in x.captured.items()]
        if len(held) >= MOST_CAPTURED:
            _, runner, shape = min(held, key=lambda x: x[0])
            del runner.captured[shape]


class GraphRunner(PassRunner):
    """Replays a captured pass of the smallest shape that fits, captured when first needed.

    What no shape holds, and everything once the pool has failed, runs eagerly. captured: by shape.
    """

    def __init__(
        self,
        function: PassFunction,
        cache: KVCache,
        layout: InputLayout,
        eager: EagerRunner,
        grid: Grid,
        pool: CapturePool,
        name: str,
    ) -> None:
        self.name = name
        self.captured: dict[Bucket, Captured] = {}
        self._function, self._cache, self._layout = function, cache, layout
        self._eager, self._grid, self._pool = eager, grid, pool
        self._outputs = pool.join(self)

    @torch.inference_mode()
    def run(self, tokens: Tokens, pad_to: int) -> tuple[Tensor, ...]:
        """As the base says."""
        shape = self._shape(tokens, pad_to)
        captured = None if shape is None else self._filled(shape, tokens)
        if captured is None:
            return self._eager.run(tokens, pad_to)
        captured.used = self._pool.next_pass()
        captured.replay()
        return captured.static.results

    def _shape(self, tokens: Tokens, pad_to: int) -> Bucket | None:
        if self._pool.failure is not None or tokens.first_row:
            return None
        return self._grid.bucket(
            batch=len(tokens.counts),
            tokens=max(pad_to, len(tokens.token)),
            width=int(tokens.counts.max()),
            span=tokens.inside.shape[2],
            context=int(tokens.extent.max()),
            one_each=bool((tokens.counts == 1).all()),
        )

    def _filled(self, shape: Bucket, tokens: Tokens) -> Captured | None:
        """The captured pass of this shape with these inputs; None if it cannot be captured."""
        found = self.captured.get(shape)
        if found is not None:
            found.static.inputs.fill(tokens)
            return found
        inputs = StaticInputs(shape, self._cache, self._layout)
        inputs.fill(tokens)  # capturing runs the pass
        static = StaticPass(inputs, self._function, self._outputs)
        replay = self._pool.capture(static)
        if replay is None:
            return None
        self.captured[shape] = Captured(static, replay, used=0)
        return self.captured[shape]


def reason(error: BaseException) -> str:
    """The first line of what went wrong first, without the full stop.

    An operator that fails while recording makes the end of the recording fail, too.
    """
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__

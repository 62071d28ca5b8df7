"""Linear layers: plain, or with weights laid out once for oneDNN.

On CPUs a plain float32 product of a few tokens runs far from memory speed on some processors; with
prepacked weights it does not, but one or two tokens may then take longer than four. Which is
fastest depends on processor, shape and token count, so it is measured when a model is loaded. Knows
nothing about transformers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

PACK_TOKENS_HINT = 8  # the token count oneDNN lays the weights out for: a small verify pass
FULL_TILE = 4  # from this many tokens on the prepacked product is at its best
REPEATS = 5
GAIN = 0.97  # another way than the straightforward one must be faster by this factor


@dataclass(frozen=True)
class SmallCounts:
    """How passes of fewer than `FULL_TILE` tokens are run; measured, never guessed.

    plain_to: up to this many tokens the plain product is used; 0: nowhere.
    run_as: tokens really run for a count, where more are faster.
    """

    plain_to: int = 0
    run_as: dict[int, int] = field(default_factory=dict)


class Linear:
    """``y = x W^T + b`` for packed tokens: x [M, in], W [out, in], y [M, out]."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight: Tensor | None = weight
        self.bias = bias
        self.in_features = weight.shape[1]
        self.packed: Tensor | None = None
        self.plain_to = 0

    def prepack(self) -> None:
        """Lay a copy of the weights out for oneDNN; both are kept until `settle`."""
        assert self.weight is not None
        self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, PACK_TOKENS_HINT)

    def settle(self, plain_to: int) -> None:
        """Use the plain product up to this many tokens; 0 frees the plain weights."""
        self.plain_to = plain_to
        if plain_to == 0:
            self.weight = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed is None or x.shape[0] <= self.plain_to:
            return torch.nn.functional.linear(x, self.weight, self.bias)  # type: ignore[arg-type]
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")

    def add_to(self, other: Tensor, x: Tensor) -> Tensor:
        """``other + y``, in one operation; other [M, out] stays as it is."""
        if self.packed is not None and x.shape[0] > self.plain_to:
            return torch.ops.mkldnn._linear_pointwise.binary(
                x, other, self.packed, self.bias, "add"
            )
        assert self.weight is not None
        total = torch.addmm(other, x, self.weight.t())
        return total if self.bias is None else total.add_(self.bias)


def can_prepack(weight: Tensor) -> bool:
    """Whether this torch build and this weight allow oneDNN's own layout."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def prepack_all(linears: Sequence[Linear]) -> SmallCounts:
    """Prepack every layer, measure how small passes run fastest, and settle on that."""
    for linear in linears:
        linear.prepack()
    chosen = choose_small_counts(_measure(linears))
    for linear in linears:
        linear.settle(chosen.plain_to)
    return chosen


def choose_small_counts(seconds: dict[tuple[bool, int], float]) -> SmallCounts:
    """The fastest way for each small count.

    seconds: {(plain, tokens): seconds of all layers}, plain products for 1 ... FULL_TILE - 1
    tokens, prepacked ones for 1 ... FULL_TILE. Plain ones are used for a run of counts from 1 on.
    """
    plain_to, run_as = 0, {}
    for tokens in range(1, FULL_TILE):
        packed, padded = seconds[False, tokens], seconds[False, FULL_TILE]
        best = min(packed, padded)
        if plain_to == tokens - 1 and seconds[True, tokens] < GAIN * best:
            plain_to = tokens
        elif padded < GAIN * packed:
            run_as[tokens] = FULL_TILE
    return SmallCounts(plain_to, run_as)


def _measure(linears: Sequence[Linear]) -> dict[tuple[bool, int], float]:
    """Median seconds of all products of one pass, by way and token count, in interleaved runs."""
    ways = [(True, x) for x in range(1, FULL_TILE)] + [(False, x) for x in range(1, FULL_TILE + 1)]
    samples: dict[tuple[bool, int], list[float]] = {x: [] for x in ways}
    for repeat in range(REPEATS + 1):
        for plain, tokens in ways:
            seconds = _timed(lambda x=plain, y=tokens: _run(linears, y, plain=x))  # type: ignore[misc]
            if repeat:  # the first run of a shape also compiles it
                samples[plain, tokens].append(seconds)
    return {x: statistics.median(y) for x, y in samples.items()}


def _run(linears: Sequence[Linear], tokens: int, plain: bool) -> None:
    inputs = {size: torch.ones(tokens, size) for size in {x.in_features for x in linears}}
    for linear in linears:  # all layers in turn, so that no weight is found in a cache
        linear.plain_to = tokens if plain else 0
        linear(inputs[linear.in_features])


def _timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start

"""Linear layers: plain, or with weights laid out once for oneDNN.

On CPUs a plain float32 product of a few tokens runs far from memory speed on some processors; with
prepacked weights it does not, but one or two tokens may then take longer than four. Which is
fastest depends on processor, shape and token count, and on where the weights lie: from one pass to
the next all others are read, so that a cache holds none. It is measured when a model is loaded,
over its weights in the order of a pass. Knows nothing about transformers.
"""

from __future__ import annotations

import statistics
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Way = Literal["plain", "packed", "padded"]

PACK_TOKENS_HINT = 64  # the token count oneDNN lays the weights out for
FULL_TILE = 4  # "padded" runs a prepacked product with so many tokens
PROBED = (1, 2, 3, 4, 8, 32, 128)  # token counts; those between go the way of the one below
REPEATS = 3
SWEEP_BYTES = 1 << 30  # weights that one sweep reads at most; a larger model is probed in part
GAIN = 0.97  # another way than the prepacked one must be faster by this factor


@dataclass(frozen=True)
class Kernels:
    """How products of one shape run fastest: from `counts[i]` tokens on the way `ways[i]`.

    counts ascend from 1; neighbouring ways differ.
    """

    counts: tuple[int, ...] = (1,)
    ways: tuple[Way, ...] = ("plain",)
    _known: dict[int, Way] = field(default_factory=dict, init=False, repr=False, compare=False)

    def way(self, tokens: int) -> Way:
        """The way that so many tokens go."""
        way = self._known.get(tokens)
        if way is None:
            way = self._known[tokens] = self.ways[bisect_right(self.counts, tokens) - 1]
        return way

    def __str__(self) -> str:
        """For a person: "padded from 1, packed from 3 tokens"."""
        steps = [f"{way} from {count}" for count, way in zip(self.counts, self.ways, strict=True)]
        return ", ".join(steps) + " tokens" if len(steps) > 1 else self.ways[0]


class Linear:
    """``y = x W^T + b`` for packed tokens: x [M, in], W [out, in], y [M, out]."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight: Tensor | None = weight
        self.bias = bias
        self.size = tuple(weight.shape)  # out, in
        self.kernels = Kernels()
        self._turned: Tensor | None = weight.t()  # [in, out], a view
        self._packed: Tensor | None = None
        self._tile: Tensor | None = None  # [FULL_TILE, in]

    def prepack(self) -> None:
        """Lay a copy of the weights out for oneDNN; both are kept until `settle`."""
        assert self.weight is not None
        self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, PACK_TOKENS_HINT)
        self._tile = self.weight.new_zeros(FULL_TILE, self.size[1])

    def settle(self, kernels: Kernels) -> None:
        """Run like this from now on, and free the weights that no count needs."""
        self.kernels = kernels
        if "plain" not in kernels.ways:
            self.weight = self._turned = None

    def __call__(self, x: Tensor) -> Tensor:
        return self.run(x, self.kernels.way(x.shape[0]))

    def run(self, x: Tensor, way: Way) -> Tensor:
        """The product in one of the ways."""
        if way == "plain":
            assert self._turned is not None
            if self.bias is None:
                return torch.mm(x, self._turned)
            return torch.addmm(self.bias, x, self._turned)
        if way == "packed":
            return _onednn(x, self._packed, self.bias, "none", [], "")
        assert self._tile is not None
        tokens = x.shape[0]
        self._tile[:tokens].copy_(x)
        return _onednn(self._tile, self._packed, self.bias, "none", [], "")[:tokens]

    def add_to(self, other: Tensor, x: Tensor) -> Tensor:
        """``other + y``, in one operation where there is one; other [M, out] stays as it is."""
        way = self.kernels.way(x.shape[0])
        if way == "packed":
            return _onednn.binary(x, other, self._packed, self.bias, "add")
        if way == "padded":
            return self.run(x, way).add_(other)
        assert self._turned is not None
        total = torch.addmm(other, x, self._turned)
        return total if self.bias is None else total.add_(self.bias)


_onednn: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def can_prepack(weight: Tensor) -> bool:
    """Whether this torch build and this weight allow oneDNN's own layout."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and _onednn is not None
    )


def prepack_all(linears: Sequence[Linear]) -> None:
    """Prepack every layer, measure how each shape runs fastest by token count, and settle on it."""
    for linear in linears:
        linear.prepack()
    chosen = {size: choose_kernels(seconds) for size, seconds in _measure(linears).items()}
    for linear in linears:
        linear.settle(chosen[linear.size])


def kernels_text(linears: Sequence[Linear]) -> str:
    """What was chosen for which shape, in one line."""
    chosen = {x.size: x.kernels for x in linears}
    return "; ".join(f"linear {x[0]}x{x[1]} {y}" for x, y in chosen.items())


def choose_kernels(seconds: Mapping[int, Mapping[Way, float]]) -> Kernels:
    """The fastest way for each count; the prepacked one unless another gains enough.

    seconds: {tokens: {way: seconds}}, tokens ascending from 1.
    """
    counts: list[int] = []
    ways: list[Way] = []
    for tokens, by_way in seconds.items():
        best = min(by_way, key=lambda x: by_way[x])
        way: Way = best if by_way[best] < GAIN * by_way["packed"] else "packed"
        if not ways or way != ways[-1]:
            counts.append(tokens)
            ways.append(way)
    return Kernels(tuple(counts), tuple(ways))


def _measure(linears: Sequence[Linear]) -> dict[tuple[int, ...], dict[int, dict[Way, float]]]:
    """Median seconds of products by shape, count and way, in interleaved sweeps."""
    found: dict[tuple[int, ...], dict[int, dict[Way, float]]] = {x.size: {} for x in linears}
    for tokens in PROBED:
        probed = _probed(linears, tokens)
        ways: list[Way] = ["plain", "packed"]
        if tokens < FULL_TILE:
            ways.append("padded")
        sweeps: dict[Way, list[dict[tuple[int, ...], float]]] = {way: [] for way in ways}
        for repeat in range(REPEATS + 1):
            for way in ways:
                seconds = _sweep(probed, tokens, way)
                if repeat:  # the first run of a shape also compiles it
                    sweeps[way].append(seconds)
        for size, by_count in found.items():
            by_count[tokens] = {x: statistics.median(z[size] for z in y) for x, y in sweeps.items()}
    return found


def _probed(linears: Sequence[Linear], tokens: int) -> list[Linear]:
    """Layers of each shape to sweep over, in order: of large counts few, at least one.

    A product of many tokens is bound by arithmetic, and takes too long to repeat over and over.
    """
    total = sum(4 * x.size[0] * x.size[1] for x in linears)
    share = min(1.0, SWEEP_BYTES / total) / max(1, tokens // FULL_TILE)
    most = {size: max(1, int(share * y)) for size, y in Counter(x.size for x in linears).items()}
    seen: Counter[tuple[int, ...]] = Counter()
    probed = []
    for linear in linears:
        seen[linear.size] += 1
        if seen[linear.size] <= most[linear.size]:
            probed.append(linear)
    return probed


def _sweep(linears: Sequence[Linear], tokens: int, way: Way) -> dict[tuple[int, ...], float]:
    """Seconds of one product after the other, summed by shape."""
    inputs = {x.size[1]: torch.ones(tokens, x.size[1]) for x in linears}
    seconds = {x.size: 0.0 for x in linears}
    start = time.perf_counter()
    for linear in linears:
        linear.run(inputs[linear.size[1]], way)
        end = time.perf_counter()
        seconds[linear.size] += end - start
        start = end
    return seconds

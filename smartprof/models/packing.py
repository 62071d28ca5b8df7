"""Linear layers: plain, or with weights laid out once for oneDNN or for MKL.

On CPUs a plain float32 product of a few tokens runs far from memory speed on some processors; with
prepacked weights it does not, but one or two tokens may then take longer than four. MKL's layout,
which torch runs at one token count only, can be faster still between 5 and 16 tokens, for one more
copy of the weights per count. Which is fastest depends on processor, shape and token count, and on
where the weights lie: from one pass to the next all others are read, so that a cache holds none. It
is measured over a model's weights in the order of a pass. Knows nothing about transformers.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from smartprof.models.kernels import (
    FULL_TILE,
    MKL_TILES,
    PROBED,
    Kernels,
    Size,
    Way,
    choose_kernels,
    ways_at,
)

PACK_TOKENS_HINT = 64  # the token count oneDNN lays the weights out for
REPEATS = 3
SWEEP_BYTES = 1 << 30  # weights that one sweep reads at most; a larger model is probed in part
MKL_BYTES = 1 << 30  # weights from which on no further copies are laid out for MKL
AGREEMENT = 1e-4  # largest error of a product, of its largest value


class Linear:
    """``y = x W^T + b`` for packed tokens: x [M, in], W [out, in], y [M, out]."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight: Tensor | None = weight
        self.bias = bias
        self.size: Size = (weight.shape[0], weight.shape[1])
        self.kernels = Kernels()
        self._turned: Tensor | None = weight.t()  # [in, out], a view
        self._packed: Tensor | None = None
        self._mkl: dict[Way, Tensor] = {}
        self._tiles: dict[int, Tensor] = {}  # [rows, in] by rows

    def prepack(self) -> None:
        """Lay a copy of the weights out for oneDNN; both are kept until `settle`."""
        assert self.weight is not None
        self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, PACK_TOKENS_HINT)
        self._tiles[FULL_TILE] = self.weight.new_zeros(FULL_TILE, self.size[1])

    def prepack_for_mkl(self, way: Way) -> bool:
        """Lay one more copy out for MKL; whether its products are those of the plain weights."""
        assert self.weight is not None
        count = MKL_TILES[way]
        self._mkl[way] = torch.ops.mkl._mkl_reorder_linear_weight(self.weight, count)
        self._tiles[count] = self.weight.new_zeros(count, self.size[1])
        x = torch.linspace(-1, 1, count * self.size[1]).view(count, -1)
        expected, found = self.run(x, "plain"), self.run(x, way)
        return bool((found - expected).abs().max() <= AGREEMENT * expected.abs().max())

    def settle(self, kernels: Kernels) -> None:
        """Run like this from now on, and free the weights that no count needs."""
        self.kernels = kernels
        self._mkl = {way: self._mkl[way] for way in self._mkl if way in kernels.ways}
        if "plain" not in kernels.ways:
            self._turned = None
            self.weight = self.weight if self._mkl else None  # MKL's operator asks for it, too

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """The product; it is `out` [M, out] itself where the way can write there."""
        return self.run(x, self.kernels.way(x.shape[0]), out)

    def run(self, x: Tensor, way: Way, out: Tensor | None = None) -> Tensor:
        """The product in one of the ways."""
        if way == "plain":
            assert self._turned is not None
            if self.bias is None:
                return torch.mm(x, self._turned, out=out)
            return torch.addmm(self.bias, x, self._turned, out=out)
        if way == "packed":
            return _onednn(x, self._packed, self.bias, "none", [], "")
        tokens = x.shape[0]
        if way == "padded":
            tile = self._tile(x, FULL_TILE)
            return _onednn(tile, self._packed, self.bias, "none", [], "")[:tokens]
        tile = self._tile(x, MKL_TILES[way])
        return _mkl(tile, self._mkl[way], self.weight, self.bias, len(tile))[:tokens]

    def _tile(self, x: Tensor, rows: int) -> Tensor:
        """x [M, in] as the first of so many rows; the others hold anything."""
        if len(x) == rows:
            return x
        tile = self._tiles[rows]
        tile[: len(x)].copy_(x)
        return tile

    def add_to(self, other: Tensor, x: Tensor) -> Tensor:
        """``other + y``, in one operation where there is one; other [M, out] stays as it is."""
        way = self.kernels.way(x.shape[0])
        if way == "packed":
            return _onednn.binary(x, other, self._packed, self.bias, "add")
        if way != "plain":
            return self.run(x, way).add_(other)
        assert self._turned is not None
        total = torch.addmm(other, x, self._turned)
        return total if self.bias is None else total.add_(self.bias)


_onednn: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
_mkl: Any = getattr(torch.ops.mkl, "_mkl_linear", None)


def can_prepack(weight: Tensor) -> bool:
    """Whether this torch build and this weight allow oneDNN's own layout."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and _onednn is not None
    )


def measure_kernels(linears: Sequence[Linear]) -> dict[Size, Kernels]:
    """Lay every layer out in every way, and measure how each shape runs fastest by token count."""
    if not linears:
        return {}
    for linear in linears:
        linear.prepack()
    measured = _measure(linears, prepack_for_mkl(linears))
    return {size: choose_kernels(seconds) for size, seconds in measured.items()}


def prepack_for_mkl(linears: Sequence[Linear]) -> list[Way]:
    """Lay every layer out for MKL, too; returns the ways in which all give the right products."""
    return [way for way in _mkl_ways(linears) if all([x.prepack_for_mkl(way) for x in linears])]


def lay_out(linears: Sequence[Linear], chosen: Mapping[Size, Kernels]) -> bool:
    """Lay every layer out in the ways that were chosen for its shape, and in no other.

    False if this torch has not got one of them, or if products in one are wrong.
    """
    known = {"plain", "packed", "padded", *_mkl_ways(linears)}
    if not all(known.issuperset(x.ways) for x in chosen.values()):
        return False
    return all(_laid_out(x, chosen[x.size].ways) for x in linears)


def _laid_out(linear: Linear, ways: Collection[Way]) -> bool:
    if "packed" in ways or "padded" in ways:
        linear.prepack()
    return all(linear.prepack_for_mkl(x) for x in MKL_TILES if x in ways)


def settle(linears: Sequence[Linear], chosen: Mapping[Size, Kernels]) -> None:
    """Let every layer run as was chosen for its shape; it is laid out for that."""
    for linear in linears:
        linear.settle(chosen[linear.size])


def warm_up(linears: Sequence[Linear]) -> None:
    """Run each shape once at every probed count: its first run also compiles it."""
    for linear in {x.size: x for x in linears}.values():
        for tokens in PROBED:
            linear(torch.ones(tokens, linear.size[1]))


def _mkl_ways(linears: Sequence[Linear]) -> list[Way]:
    """None for a large model, of which a processor should not hold that many copies."""
    if _mkl is None or not torch.backends.mkl.is_available() or _bytes(linears) > MKL_BYTES:
        return []
    return list(MKL_TILES)


def kernels_text(linears: Sequence[Linear]) -> str:
    """What was chosen for which shape, in one line."""
    chosen = {x.size: x.kernels for x in linears}
    return "; ".join(f"linear {x[0]}x{x[1]} {y}" for x, y in chosen.items())


def _measure(
    linears: Sequence[Linear], mkl_ways: Sequence[Way]
) -> dict[Size, dict[int, dict[Way, float]]]:
    """Median seconds of products by shape, count and way, in interleaved sweeps."""
    found: dict[Size, dict[int, dict[Way, float]]] = {x.size: {} for x in linears}
    for tokens in PROBED:
        probed = _probed(linears, tokens)
        ways = ways_at(tokens, mkl_ways)
        sweeps: dict[Way, list[dict[Size, float]]] = {way: [] for way in ways}
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
    share = min(1.0, SWEEP_BYTES / _bytes(linears)) / max(1, tokens // FULL_TILE)
    most = {size: max(1, int(share * y)) for size, y in Counter(x.size for x in linears).items()}
    seen: Counter[Size] = Counter()
    probed = []
    for linear in linears:
        seen[linear.size] += 1
        if seen[linear.size] <= most[linear.size]:
            probed.append(linear)
    return probed


def _bytes(linears: Sequence[Linear]) -> int:
    """Of one copy of all weights."""
    return sum(4 * x.size[0] * x.size[1] for x in linears)


def _sweep(linears: Sequence[Linear], tokens: int, way: Way) -> dict[Size, float]:
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

"""Linear layers: plain, or with weights laid out once for oneDNN or for MKL.

On CPUs a plain float32 product of a few tokens runs far from memory speed on some processors; with
prepacked weights it does not, but one or two tokens may then take longer than four. MKL's layout,
which torch runs at one token count only, can be faster still between 5 and 16 tokens, for one more
copy of the weights per count. Which is fastest depends on processor, shape and token count, and on
where the weights lie: from one pass to the next all others are read, so that a cache holds none. It
is measured when a model is loaded, over its weights in the order of a pass. Knows nothing about
transformers.
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

Way = Literal["plain", "packed", "padded", "mkl8", "mkl16"]

PACK_TOKENS_HINT = 64  # the token count oneDNN lays the weights out for
FULL_TILE = 4  # "padded" runs a prepacked product with so many tokens
MKL_TILES: dict[Way, int] = {"mkl8": 8, "mkl16": 16}  # MKL's own layout, for one count each
# Token counts; those between go the way of the one below. One follows each tile's own.
PROBED = (1, 2, 3, 4, 6, 8, 9, 12, 16, 17, 32, 128)
REPEATS = 3
SWEEP_BYTES = 1 << 30  # weights that one sweep reads at most; a larger model is probed in part
MKL_BYTES = 1 << 30  # weights from which on no further copies are laid out for MKL
AGREEMENT = 1e-4  # largest error of a product, of its largest value
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


def prepack_all(linears: Sequence[Linear]) -> None:
    """Prepack every layer, measure how each shape runs fastest by token count, and settle on it."""
    for linear in linears:
        linear.prepack()
    measured = _measure(linears, prepack_for_mkl(linears))
    chosen = {size: choose_kernels(seconds) for size, seconds in measured.items()}
    for linear in linears:
        linear.settle(chosen[linear.size])


def prepack_for_mkl(linears: Sequence[Linear]) -> list[Way]:
    """Lay every layer out for MKL, too; returns the ways in which all give the right products.

    None for a large model, of which a processor should not hold that many copies.
    """
    if _mkl is None or not torch.backends.mkl.is_available() or _bytes(linears) > MKL_BYTES:
        return []
    return [way for way in MKL_TILES if all([x.prepack_for_mkl(way) for x in linears])]


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


def ways_at(tokens: int, mkl_ways: Sequence[Way]) -> list[Way]:
    """What to measure at so many tokens: a tile is worth filling up from its half on."""
    ways: list[Way] = ["plain", "packed"]
    if tokens < FULL_TILE:
        ways.append("padded")
    return ways + [x for x in mkl_ways if MKL_TILES[x] // 2 < tokens <= MKL_TILES[x]]


def _measure(
    linears: Sequence[Linear], mkl_ways: Sequence[Way]
) -> dict[tuple[int, ...], dict[int, dict[Way, float]]]:
    """Median seconds of products by shape, count and way, in interleaved sweeps."""
    found: dict[tuple[int, ...], dict[int, dict[Way, float]]] = {x.size: {} for x in linears}
    for tokens in PROBED:
        probed = _probed(linears, tokens)
        ways = ways_at(tokens, mkl_ways)
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
    share = min(1.0, SWEEP_BYTES / _bytes(linears)) / max(1, tokens // FULL_TILE)
    most = {size: max(1, int(share * y)) for size, y in Counter(x.size for x in linears).items()}
    seen: Counter[tuple[int, ...]] = Counter()
    probed = []
    for linear in linears:
        seen[linear.size] += 1
        if seen[linear.size] <= most[linear.size]:
            probed.append(linear)
    return probed


def _bytes(linears: Sequence[Linear]) -> int:
    """Of one copy of all weights."""
    return sum(4 * x.size[0] * x.size[1] for x in linears)


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

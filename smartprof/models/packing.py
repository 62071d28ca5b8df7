"""Linear layers: plain, or with weights laid out once for oneDNN, for MKL or in our own panels.

On CPUs a plain float32 product of a few tokens runs far from memory speed on some processors; with
prepacked weights it does not, but one or two tokens may then take longer than four. MKL's layout,
which torch runs at one token count only, can be faster still between 5 and 16 tokens, for one more
copy of the weights per count. Our panels need a C compiler, once. Which is fastest is measured
(`probing.py`). Knows nothing about transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from smartprof.models.kernels import FULL_TILE, MKL_TILES, PROBED, Kernels, Size, Way
from smartprof.models.panels import NO_NORM, load_panels

PACK_TOKENS_HINT = 64  # the token count oneDNN lays the weights out for
MKL_BYTES = 1 << 30  # weights from which on no further copies are laid out for MKL
CHECKED_TOKENS = 8  # with which panels are
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
        self._panels: Tensor | None = None
        self._tiles: dict[int, Tensor] = {}  # [rows, in] by rows

    def lay_out(self, way: Way) -> bool:
        """Keep the weights as a way needs them; whether its products are the right ones.

        The plain weights and every layout are kept until `settle`.
        """
        if way in ("packed", "padded") and self._packed is None:
            assert self.weight is not None
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, PACK_TOKENS_HINT)
            self._tiles[FULL_TILE] = self.weight.new_zeros(FULL_TILE, self.size[1])
        if way == "panels" and self._panels is None:
            library = load_panels()
            assert self.weight is not None and library is not None
            self._panels = library.lay_out(self.weight)
            if not self._agrees(way, CHECKED_TOKENS):
                self._panels = None
                return False
        if way in MKL_TILES and way not in self._mkl:
            assert self.weight is not None
            count = MKL_TILES[way]
            self._mkl[way] = torch.ops.mkl._mkl_reorder_linear_weight(self.weight, count)
            self._tiles[count] = self.weight.new_zeros(count, self.size[1])
            if not self._agrees(way, count):
                del self._mkl[way]
                return False
        return True

    def _agrees(self, way: Way, tokens: int) -> bool:
        """Whether its products are those of the plain weights."""
        x = torch.linspace(-1, 1, tokens * self.size[1]).view(tokens, -1)
        expected, found = self.run(x, "plain"), self.run(x, way)
        return bool((found - expected).abs().max() <= AGREEMENT * expected.abs().max())

    def settle(self, kernels: Kernels) -> None:
        """Run like this from now on, and free the weights that no count needs."""
        self.kernels, ways = kernels, kernels.ways
        self._mkl = {x: y for x, y in self._mkl.items() if x in ways}
        self._packed = self._packed if {"packed", "padded"}.intersection(ways) else None
        self._panels = self._panels if "panels" in ways else None
        if "plain" not in ways:
            self._turned = None
            self.weight = self.weight if self._mkl else None  # MKL's operator asks for it, too

    def norms(self, tokens: int) -> bool:
        """Whether `of_normed` has a way for so many tokens."""
        return self.kernels.way(tokens) == "panels"

    def of_normed(self, x: Tensor, eps: float, out: Tensor | None = None) -> Tensor:
        """The product of x [M, in], each token over the root of the sum of its squares and eps."""
        return self._of_panels(x, out, self.bias, eps)

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
        if way == "panels":
            return self._of_panels(x, out, self.bias)
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
        if way == "panels":
            total = self._of_panels(x, None, other)
        elif way == "plain":
            assert self._turned is not None
            total = torch.addmm(other, x, self._turned)
        else:
            return self.run(x, way).add_(other)
        return total if self.bias is None else total.add_(self.bias)

    def _of_panels(
        self, x: Tensor, out: Tensor | None, added: Tensor | None, eps: float = NO_NORM
    ) -> Tensor:
        library = load_panels()
        assert library is not None and self._panels is not None
        return library.product(x, self._panels, self.size[0], out, added, eps)


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


def ways_here(linears: Sequence[Linear]) -> list[Way]:
    """Further ways beside "plain" and oneDNN's in which this machine can run these layers."""
    own: list[Way] = [] if load_panels() is None else ["panels"]
    return own + _mkl_ways(linears)


def lay_out(linears: Sequence[Linear], chosen: Mapping[Size, Kernels]) -> bool:
    """Lay every layer out in the ways that were chosen for its shape.

    False if this machine has not got one of them, or if products in one are wrong.
    """
    known = {"plain", "packed", "padded", *ways_here(linears)}
    if not all(known.issuperset(x.ways) for x in chosen.values()):
        return False
    return all(x.lay_out(way) for x in linears for way in chosen[x.size].ways)


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
    if _mkl is None or not torch.backends.mkl.is_available() or weight_bytes(linears) > MKL_BYTES:
        return []
    return list(MKL_TILES)


def kernels_text(linears: Sequence[Linear]) -> str:
    """What was chosen for which shape, in one line."""
    chosen = {x.size: x.kernels for x in linears}
    return "; ".join(f"linear {x[0]}x{x[1]} {y}" for x, y in chosen.items())


def weight_bytes(linears: Sequence[Linear]) -> int:
    """Of one copy of all weights."""
    return sum(4 * x.size[0] * x.size[1] for x in linears)

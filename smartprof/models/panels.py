"""Weights in panels, and products with them by the compiled functions of `panels.c`.

From one token to a few dozen these run at the speed at which the weights come from memory, where
libraries made for large matrices do not, on processors without AVX-512 least of all. They take in
the norm before a product and the sum after it. float32 on CPUs.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from smartprof.models.c_library import load_c_library
from smartprof.models.huge_pages import HUGE_PAGES

SOURCE = Path(__file__).with_name("panels.c")
NO_NORM = -1.0


class Panels:
    """The compiled functions. width: outputs of a panel."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self._product: Any = library.panel_product
        self._product.argtypes = [
            *(pointer, pointer, size, pointer, pointer, size),
            *(ctypes.c_float, size, size, size, ctypes.c_int),
        ]
        self._product.restype = None
        self.width = int(library.panel_width())

    def lay_out(self, weight: Tensor) -> Tensor:
        """Weights [out, in] as a copy [panels, in, width]; the last panel is filled up by zeros."""
        missing = -len(weight) % self.width
        filled = F.pad(weight, (0, 0, 0, missing)) if missing else weight
        turned = filled.unflatten(0, (-1, self.width)).transpose(1, 2)
        return HUGE_PAGES.empty(turned.numel()).view(turned.shape).copy_(turned)

    def product(
        self,
        x: Tensor,
        weight: Tensor,
        outputs: int,
        out: Tensor | None = None,
        added: Tensor | None = None,
        eps: float = NO_NORM,
    ) -> Tensor:
        """x W^T + added, [M, out], for x [M, in].

        weight: as laid out, for so many outputs. out: contiguous [M, out], else a new tensor.
        added: [M, out], or [out] for every token. eps: from 0 on, each token goes in over the root
        of the sum of its squares and eps.
        """
        x, tokens = _in_rows(x), len(x)
        if out is None:
            out = torch.empty(tokens, outputs)
        place, stride = None, 0
        if added is not None:
            added = _in_rows(added)
            place, stride = added.data_ptr(), added.stride(0) if added.dim() == 2 else 0
        self._product(
            weight.data_ptr(),
            x.data_ptr(),
            x.stride(0),
            out.data_ptr(),
            place,
            stride,
            eps,
            tokens,
            outputs,
            weight.shape[1],
            torch.get_num_threads(),
        )
        return out


@cache
def load_panels() -> Panels | None:
    """The functions, compiled if need be; None where that cannot be done."""
    library = load_c_library(SOURCE)
    return None if library is None else Panels(library)


def _in_rows(x: Tensor) -> Tensor:
    """With the numbers of a row next to each other."""
    return x if x.stride(-1) == 1 else x.contiguous()

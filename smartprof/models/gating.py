"""The gate of an MLP, by the compiled function of `gate.c` where there is one."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from smartprof.models.c_library import LANES, load_c_library
from smartprof.models.workspace import Gates, split_gates

SOURCE = Path(__file__).with_name("gate.c")
TOLERANCE = 1e-5


def gate_(gates: Gates) -> Tensor:
    """silu(gate) * up, [M, intermediate], in the place of the gate."""
    joined, size = gates.joined, gates.up.shape[1]
    fits = joined.dtype == torch.float32 and size % LANES == 0 and joined.is_contiguous()
    function = load_gate() if fits and joined.device.type == "cpu" else None
    if function is None:
        return F.silu(gates.gate, inplace=True).mul_(gates.up)
    function(joined.data_ptr(), len(joined), size, torch.get_num_threads())
    return gates.gate


@cache
def load_gate() -> Any | None:
    """The function, compiled if need be; None where that cannot be done or it errs."""
    library = load_c_library(SOURCE)
    if library is None:
        return None
    function = library.gate
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
    function.restype = None
    return function if _is_right(function) else None


def _is_right(function: Any) -> bool:
    """Whether it gives what torch does over the range in which the gate opens."""
    joined = torch.linspace(-30, 30, 2 * 6 * LANES).view(3, -1)
    gates = split_gates(joined.clone())
    expected = F.silu(gates.gate) * gates.up
    function(gates.joined.data_ptr(), 3, gates.up.shape[1], 1)
    return torch.allclose(gates.gate, expected, atol=TOLERANCE, rtol=TOLERANCE)

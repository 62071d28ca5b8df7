"""Which attention kernels torch may choose on a GPU."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

# Both take an additive mask. cuDNN's plans anew for every length, which takes longer than a pass.
STEADY = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def attention_backends(device: torch.device) -> AbstractContextManager[None]:
    """Run attention by kernels that start at once for every length; changes nothing on a CPU."""
    return sdpa_kernel(STEADY) if device.type == "cuda" else nullcontext()

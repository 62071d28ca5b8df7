"""Rotary positions.

Rotary pairs are kept next to each other (entries 2i and 2i+1 of a head form one complex number), so
that a rotation is one complex product; Hugging Face weights, which pair i with i + head_dim/2, are
reordered once on loading. Attention scores are the same for either order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from smartprof.models.shapes import ModelShape


def as_pairs(x: Tensor) -> Tensor:
    """x [..., head_dim] as complex numbers [..., head_dim / 2]; as it is unless in float32."""
    return x.view(torch.complex64) if x.dtype == torch.float32 else x


def rotate_(x: Tensor, turn: Tensor) -> None:
    """Turn x in place by unit complex numbers [M, 1, head_dim / 2].

    x: what `as_pairs` makes of [M, heads, head_dim].
    """
    if x.is_complex():
        x.mul_(turn)
        return
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    x.copy_(torch.view_as_real(pairs * turn).flatten(-2))


def rotations(shape: ModelShape, length: int, device: torch.device) -> Tensor:
    """Unit complex numbers [length, head_dim / 2] of positions 0 ... length - 1."""
    # In float32 throughout, as models are trained and as other implementations do.
    exponent = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    frequency = 1.0 / shape.rope_theta**exponent
    if shape.rope_scaling is not None:
        frequency = _scaled_frequency(frequency, shape)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), frequency)
    return torch.polar(torch.ones_like(angle), angle).to(device)


def pair_neighbours(weight: Tensor, heads: int) -> Tensor:
    """Reorder rows [heads * head_dim, ...] so that rotary partners stand next to each other."""
    halves = weight.unflatten(0, (heads, 2, -1))  # [heads, half, head_dim / 2, ...]
    return halves.transpose(1, 2).flatten(0, 2).contiguous()


def _scaled_frequency(frequency: Tensor, shape: ModelShape) -> Tensor:
    """Llama 3.1's long-context scaling: low frequencies are divided, the middle ones blended."""
    scaling = shape.rope_scaling
    assert scaling is not None
    wavelength = 2 * math.pi / frequency
    turns = scaling.original_context / wavelength
    blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = blend.clamp(0, 1)
    return (1 - blend) * frequency / scaling.factor + blend * frequency

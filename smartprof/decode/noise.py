"""Noise that is a pure function of who draws it: request, position, token.

Plain decoding and every tree verify the same token at the same position with the same noise, so
they choose the same token. Integer arithmetic, the same on every device; only the two logarithms
may differ in their last bit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
# Constants as the signed integers of the same 64 bits.
STEP = 0x9E3779B97F4A7C15 - (1 << 64)
FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
SECOND = 0x94D049BB133111EB - (1 << 64)

# Uniforms are (k + 1/2) / 2^32: exact in float64, never 0 or 1. The coarser the grid, the smaller
# the largest noise, and the fewer tokens can win at all. Rounding one token's uniform to the grid
# moves at most 2^-33 of the probability (a monotone function, averaged over midpoints), so a
# vocabulary of 2^17 moves 2^-16 at the very most: less than the rounding of float32 logits does.
BITS = 32
# The largest value is -log(-log(1 - 2^-33)) = 33 log 2 to within rounding, for which the hundredth
# leaves room.
MOST_NOISE = (BITS + 1) * math.log(2) + 0.01


def nth_word(state: Tensor, number: Tensor) -> Tensor:
    """Outputs `number` (from 0) of the SplitMix64 streams that start in `state`: int64, broadcast.

    Used twice: the words of a request's stream, by position, are the states of the streams that
    its tokens are drawn from.
    """
    word = state + (number + 1) * STEP
    word = (word ^ _shifted(word, 30)) * FIRST
    word = (word ^ _shifted(word, 27)) * SECOND
    return word ^ _shifted(word, 31)


def gumbel(state: Tensor, token: Tensor) -> Tensor:
    """Standard Gumbel noise of tokens, float64, at most `MOST_NOISE`; broadcast.

    state: int64, ``nth_word(request_seed, position)``. token: int64. The token with the largest sum
    of logit and noise is a sample of the softmax (Gumbel, 1954).
    """
    grid = _shifted(nth_word(state, token), 64 - BITS)
    uniform = (grid.to(torch.float64) + 0.5) * 2.0**-BITS
    return uniform.log_().neg_().log_().neg_()


def _shifted(word: Tensor, places: int) -> Tensor:
    """Shift right without carrying the sign along."""
    return (word >> places) & ((1 << (64 - places)) - 1)

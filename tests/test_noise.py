"""Noise keyed by request, position and token."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from smartprof.decode.noise import BITS, MOST_NOISE, gumbel, nth_word

WORD = (1 << 64) - 1


def splitmix(state: int, number: int) -> int:
    """The published generator in Python's own integers, one step at a time, signed at the end."""
    for _ in range(number + 1):
        state = (state + 0x9E3779B97F4A7C15) & WORD
    word = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & WORD
    word ^= word >> 31
    return word - (1 << 64) if word >> 63 else word


def uniforms(state: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    return (-(-gumbel(state, token)).exp()).exp()


def states(seed: int, positions: int) -> torch.Tensor:
    return nth_word(torch.tensor([seed]), torch.arange(positions))


def test_the_words_are_those_of_splitmix64() -> None:
    assert splitmix(1234567, 0) == 6457827717110365317  # widely published check values
    assert splitmix(1234567, 1) == 3203168211198807973
    for seed in (0, 1234567, -5, 2**63 - 1):
        found = nth_word(torch.tensor([seed]), torch.arange(50)).tolist()
        assert found == [splitmix(seed & WORD, x) for x in range(50)]


def test_noise_is_a_pure_function_of_seed_position_and_token() -> None:
    everything = gumbel(states(7, 20)[:, None], torch.arange(300))
    alone = gumbel(nth_word(torch.tensor(7), torch.tensor(13)), torch.tensor(250))
    assert float(everything[13, 250]) == float(alone)
    assert float(gumbel(states(8, 20)[13], torch.tensor(250))) != float(alone)


def test_noise_never_exceeds_its_bound_and_reaches_it() -> None:
    largest = ((1 << BITS) - 0.5) * 2.0**-BITS
    assert largest < 1
    assert 0 < MOST_NOISE + math.log(-math.log(largest)) < 0.02
    assert math.isfinite(-math.log(-math.log(0.5 * 2.0**-BITS)))


@pytest.mark.parametrize("along", ["token", "position", "seed"])
def test_noise_is_uniform_and_neighbours_are_independent(along: str) -> None:
    count = 40_000
    line = torch.arange(count)
    drawn = {
        "token": lambda: uniforms(states(3, 1), line),
        "position": lambda: uniforms(states(3, count), torch.tensor(5)),
        "seed": lambda: uniforms(nth_word(line, torch.tensor(9)), torch.tensor(5)),
    }[along]().numpy()
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3
    cells = (drawn * 16).astype(int)
    pairs = torch.bincount(torch.from_numpy(16 * cells[:-1:2] + cells[1::2]), minlength=256)
    assert stats.chisquare(pairs.numpy()).pvalue > 1e-3


def test_a_hash_without_mixing_would_not_pass() -> None:
    """Negative control: the counter alone is uniform, but its neighbours are not independent."""
    steps = torch.arange(40_000) * (0x9E3779B97F4A7C15 - (1 << 64))
    drawn = ((steps >> 12) & ((1 << BITS) - 1)).double() * 2.0**-BITS
    cells = (drawn * 16).long()
    pairs = torch.bincount(16 * cells[:-1:2] + cells[1::2], minlength=256)
    assert stats.chisquare(pairs.numpy()).pvalue < 1e-6


def test_the_largest_sum_of_logit_and_noise_is_a_sample_of_the_softmax() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 1.5]).double()
    drawn = (logits + gumbel(states(11, 20_000)[:, None], torch.arange(5))).argmax(dim=-1)
    expected = logits.softmax(dim=-1) * len(drawn)
    assert stats.chisquare(drawn.bincount(minlength=5).numpy(), expected.numpy()).pvalue > 1e-3

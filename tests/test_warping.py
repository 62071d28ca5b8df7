"""Warpers against those of transformers, on random logits with ties."""

from __future__ import annotations

import math

import pytest
import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from smartprof.decode.sampling import Sampling
from smartprof.decode.warping import threshold, warp
from smartprof.errors import InputError

SETTINGS = (
    Sampling(temperature=1.0),
    Sampling(temperature=0.7, top_k=5),
    Sampling(temperature=0.7, top_k=1),
    Sampling(temperature=1.3, top_k=1000),
    Sampling(temperature=0.7, top_p=0.9),
    Sampling(temperature=2.0, top_p=0.3),
    Sampling(temperature=5.0, top_p=0.999),
    Sampling(temperature=0.9, min_p=0.07),
    Sampling(temperature=1.1, top_k=40, top_p=0.8, min_p=0.03, repetition_penalty=1.3),
    Sampling(temperature=1.1, top_k=7, top_p=0.95, repetition_penalty=0.8),
    Sampling(repetition_penalty=1.7),
)


def theirs(logits: torch.Tensor, seen: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """What `generate` would sample from: logits [m, vocab], -inf for tokens left out."""
    steps = [RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)]
    if not sampling.greedy:
        steps.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k is not None:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        steps.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p > 0:
        steps.append(MinPLogitsWarper(sampling.min_p))
    scores = logits.clone()
    for step in steps:
        scores = step(seen, scores)
    return scores


def ours(logits: torch.Tensor, seen: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    row = torch.arange(len(seen)).repeat_interleave(seen.shape[1])
    values = warp(logits, sampling, row, seen.flatten())
    return values.masked_fill(values < threshold(values, sampling)[:, None], -math.inf)


def random_logits(vocab: int, rounded: bool, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [24, vocab], rounded to have many ties or not, and tokens seen [24, 9]."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn((24, vocab), generator=generator)
    seen = torch.randint(vocab, (24, 9), generator=generator)
    return (logits * 2).round() / 2 if rounded else logits, seen


@pytest.mark.parametrize("vocab", [50, 3000])
@pytest.mark.parametrize("sampling", SETTINGS, ids=Sampling.describe)
def test_kept_tokens_and_their_logits_are_those_of_transformers(
    sampling: Sampling, vocab: int
) -> None:
    logits, seen = random_logits(vocab, False, 1)
    torch.testing.assert_close(
        ours(logits, seen, sampling), theirs(logits, seen, sampling), rtol=0, atol=0
    )


@pytest.mark.parametrize("sampling", SETTINGS, ids=Sampling.describe)
def test_with_ties_only_those_at_the_edge_of_top_p_differ(sampling: Sampling) -> None:
    logits, seen = random_logits(300, True, 2)
    found, wanted = ours(logits, seen, sampling), theirs(logits, seen, sampling)
    if sampling.top_p == 1:
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    kept = wanted > -math.inf
    assert (found[kept] == wanted[kept]).all()
    edge = wanted.masked_fill(~kept, math.inf).amin(dim=-1, keepdim=True).expand_as(found)
    extra = (found > -math.inf) & ~kept
    assert (found[extra] == edge[extra]).all()


def test_a_repeated_token_is_penalised_once() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0]])
    zero = torch.zeros(4, dtype=torch.int64)
    found = warp(logits, Sampling(repetition_penalty=2.0), zero, torch.tensor([0, 0, 1, 0]))
    assert found.tolist() == [[1.0, -4.0, 1.0]]


@pytest.mark.parametrize("sampling", SETTINGS[:-1], ids=Sampling.describe)
def test_slack_bounds_what_changed_logits_keep(sampling: Sampling) -> None:
    """Random changes within the slack never keep what it excludes nor drop what it assures."""
    slack, generator = 0.2, torch.Generator().manual_seed(3)
    values = torch.randn((16, 60), generator=generator)
    widest, narrowest = (threshold(values, sampling, x)[:, None] for x in (slack, -slack))
    moved = False
    for _ in range(50):
        change = slack * (torch.rand(values.shape, generator=generator) - 0.5)
        kept = values + change >= threshold(values + change, sampling)[:, None]
        assert not (kept & (values < widest)).any()
        assert not (~kept & (values >= narrowest)).any()
        moved |= bool((kept != (values >= threshold(values, sampling)[:, None])).any())
    assert moved or not sampling.truncates or sampling.top_k == 1000


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"temperature": -0.1}, "temperature to be 0"),
        ({"temperature": 0.001}, "temperature to be 0"),
        ({"temperature": math.nan}, "temperature to be 0"),
        ({"temperature": 1.0, "top_k": 0}, "top-k to be at least 1, got 0"),
        ({"temperature": 1.0, "top_p": 0.0}, "top-p to be above 0 and at most 1, got 0.0"),
        ({"temperature": 1.0, "top_p": 1.1}, "top-p"),
        ({"temperature": 1.0, "top_p": math.nan}, "top-p"),
        ({"temperature": 1.0, "min_p": -0.1}, "min-p"),
        ({"repetition_penalty": 0.0}, "repetition penalty"),
        ({"repetition_penalty": math.inf}, "repetition penalty"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"top_p": 0.9}, "a temperature above 0"),
        ({"top_k": 9}, "a temperature above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    settings: dict[str, float], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        Sampling(**settings)  # type: ignore[arg-type]


def test_settings_are_described_in_their_order() -> None:
    assert Sampling().describe() == "greedy"
    assert Sampling(seed=5).describe() == "greedy"
    full = Sampling(0.7, 40, 0.9, 0.05, 1.2, 3)
    assert full.describe() == (
        "temperature 0.7, top-k 40, top-p 0.9, min-p 0.05, repetition penalty 1.2, seed 3"
    )


def test_request_seeds_differ_by_place_and_by_seed_and_by_nothing_else() -> None:
    seeds = {Sampling(seed=x).request_seed(y) for x in range(20) for y in range(50)}
    assert len(seeds) == 1000
    assert Sampling(0.7, top_p=0.9, seed=4).request_seed(7) == Sampling(seed=4).request_seed(7)
    assert all(0 <= x < 2**63 for x in seeds)

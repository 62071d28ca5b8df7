"""When an output counts as plain decoding's, on a model whose ties are made to order."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from smartprof.decode.equality import TIE, compare
from smartprof.decode.records import MOST_TIES, Equality
from smartprof.decode.requests import Progress, Request
from smartprof.decode.target import Target
from smartprof.models.shapes import named_shape
from smartprof.models.transformer import Transformer
from smartprof.models.weights import random_weights
from smartprof.trees.forest import Forest
from smartprof.trees.packed import pack

TINY = named_shape("tiny-llama")
PROMPT = (5, 9, 31, 7)
LENGTH = 16


@cache
def tied_model(gap: float) -> Transformer:
    """Token x and its twin x ^ 128 differ by a share `gap` in their embeddings, so in their logits.

    The best logit is positive, so the lower twin of the best token wins.
    """
    weights = random_weights(TINY, 3, torch.float32, "cpu")
    scaled = {x: y if x.endswith("norm.weight") else y * 6 for x, y in weights.items()}
    table = scaled["model.embed_tokens.weight"]
    table[128:] = table[:128] * (1 - gap)
    return Transformer(TINY, scaled)


def target_of(gap: float) -> Target:
    return Target(tied_model(gap), 1, 64)


def plain_output(target: Target, prompt: tuple[int, ...] = PROMPT) -> list[int]:
    """Greedy decoding without a cache: a prefill of everything for each token."""
    tokens = [*prompt]
    for _ in range(LENGTH):
        tokens.append(int(last_logits(target, tokens).argmax()))
    return tokens[len(prompt) :]


def last_logits(target: Target, tokens: list[int]) -> torch.Tensor:
    target.prefill(0, tokens)
    trees = pack(Forest.roots(np.array(tokens[-1:])), np.array([], np.int64))
    return target.scores(trees, np.array([len(tokens)]))[0]


def gap_between_the_two_best(target: Target, tokens: list[int]) -> float:
    best = last_logits(target, tokens).topk(2).values
    return float(best[0] - best[1])


def check(
    target: Target, output: list[int], plain: list[int], eos: frozenset[int] = frozenset()
) -> Equality:
    """Compare an output of PROMPT that should have LENGTH tokens or end in `eos`."""
    request = Request("p", "test", "test", tuple(PROMPT), LENGTH)
    return compare(target, Progress(request, 0, output), plain, eos)


def test_the_made_up_models_have_ties_or_clear_winners() -> None:
    close, clear = target_of(1e-6), target_of(1e-2)
    assert 0 < gap_between_the_two_best(close, [*PROMPT]) < TIE
    assert gap_between_the_two_best(clear, [*PROMPT]) > 10 * TIE


def test_plain_decoding_is_identical_to_itself() -> None:
    target = target_of(1e-6)
    plain = plain_output(target)
    assert check(target, plain, plain) == Equality(LENGTH, 0, 0)


@pytest.mark.parametrize("place", [0, 5, LENGTH - 1])
def test_the_second_best_token_within_the_tie_is_counted_as_a_tie(place: int) -> None:
    target = target_of(1e-6)
    plain = plain_output(target)
    output = [*plain]
    output[place] ^= 128
    found = check(target, output, plain)
    # what follows is the same text to this model, so plain decoding would go on the same way
    assert found == Equality(LENGTH, 1, 0)
    assert not found.identical  # one in so few tokens is more than one in a thousand


@pytest.mark.parametrize("place", [0, 5, LENGTH - 1])
def test_the_second_best_token_beyond_the_tie_is_a_changed_token(place: int) -> None:
    target = target_of(1e-2)
    plain = plain_output(target)
    output = [*plain]
    output[place] ^= 128
    found = check(target, output, plain)
    assert found.ties == 0
    assert found.changed >= 1
    assert not found.identical


def test_a_third_best_token_is_changed_however_close_the_best_two_are() -> None:
    target = target_of(1e-6)
    plain = plain_output(target)
    third = int(last_logits(target, [*PROMPT]).topk(3).indices[2])
    assert check(target, [third, *plain[1:]], plain).changed >= 1


def test_a_different_branch_after_a_tie_is_judged_by_its_own_prefix() -> None:
    """The witness is plain decoding given the produced text, not plain decoding's own output."""
    target = target_of(1e-4)  # the twins' embeddings differ enough to lead elsewhere
    plain = plain_output(target)
    other = [plain[0] ^ 128]
    other += plain_output(target, (*PROMPT, other[0]))[: LENGTH - 1]
    found = check(target, other, plain)
    assert found.changed + found.ties == 1  # only the first token is not the best
    wrong = [*other[:-1], (other[-1] + 1) % TINY.vocab]
    again = check(target, wrong, plain)
    assert again.changed + again.ties == found.changed + found.ties + 1


@pytest.mark.parametrize("kept", [0, 1, LENGTH - 1])
def test_an_output_that_ends_early_or_late_is_not_identical(kept: int) -> None:
    target = target_of(1e-6)
    plain = plain_output(target)
    assert check(target, plain[:kept], plain).changed == LENGTH - kept
    assert check(target, plain, plain[:kept]).changed == LENGTH - kept


def test_an_output_that_loses_its_end_after_a_tie_is_not_identical() -> None:
    target = target_of(1e-6)
    plain = plain_output(target)
    short = [plain[0] ^ 128, *plain[1:5]]
    assert check(target, short, plain).changed == 1
    assert check(target, short, plain, frozenset({short[-1]})).changed == 0


def test_more_than_one_tie_in_a_thousand_is_not_rounding() -> None:
    assert MOST_TIES == 1e-3
    assert Equality(5000, 5, 0).identical
    assert not Equality(5000, 6, 0).identical
    assert not Equality(999, 1, 0).identical
    assert Equality(1000, 1, 0).identical
    assert not Equality(5000, 0, 1).identical


def test_sums_of_comparisons_add_up() -> None:
    assert Equality(3, 1, 0) + Equality(5, 0, 2) == Equality(8, 1, 2)

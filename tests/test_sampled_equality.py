"""When a sampled output counts as plain decoding's, on logits whose ties are made to order."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from smartprof.decode.choosers import chooser_for
from smartprof.decode.equality import TIE, compare
from smartprof.decode.noise import gumbel, nth_word
from smartprof.decode.records import Equality
from smartprof.decode.requests import Progress, Request
from smartprof.decode.sampling import GREEDY, Sampling
from smartprof.trees.forest import Forest
from smartprof.trees.packed import PackedTrees, pack

VOCAB = 6
PROMPT = (0, 1, 2)
LENGTH = 12
LOW = -30.0  # a token that never wins
WARM = 0.5


class MadeUp:
    """Stands for a target whose logits do not depend on the text."""

    def __init__(self, logits: list[float]) -> None:
        self.logits = torch.tensor([logits], dtype=torch.float32)

    def prefill(self, row: int, tokens: list[int]) -> None:
        """Nothing to remember."""

    def scores(self, trees: PackedTrees, context_lens: NDArray[np.int64]) -> torch.Tensor:
        return self.logits


def progress_of(sampling: Sampling, output: list[int], index: int = 0) -> Progress:
    return Progress(Request("p", "c", "s", PROMPT, LENGTH, sampling), index, output)


def plain_output(target: MadeUp, sampling: Sampling, index: int = 0) -> list[int]:
    """Plain decoding, one root after another."""
    done = progress_of(sampling, [], index)
    root = pack(Forest.roots(np.array([0])), np.array([], np.int64))
    while done.room:
        choose = chooser_for([done], root, np.array([done.context_len]))
        done.commit(choose(target.logits).tolist(), frozenset())
    return done.output


def check(target: Any, sampling: Sampling, output: list[int], plain: list[int]) -> Equality:
    return compare(target, progress_of(sampling, output), plain, frozenset())


def changed_at(place: int, output: list[int], token: int) -> list[int]:
    return [*output[:place], token, *output[place + 1 :]]


def noise(sampling: Sampling, place: int, index: int = 0) -> torch.Tensor:
    """Of all tokens at a place of the output."""
    seed = torch.tensor(sampling.request_seed(index))
    state = nth_word(seed, torch.tensor(len(PROMPT) + place))
    return gumbel(state, torch.arange(VOCAB))


def levelled(sampling: Sampling, place: int, gap: float) -> MadeUp:
    """At this place token 0's score is `gap` above token 1's; nothing else comes near."""
    drawn = noise(sampling, place)
    first, second = (float(gap - drawn[0]), float(-drawn[1]))
    logits = [first * sampling.temperature, second * sampling.temperature]
    return MadeUp([*logits, *[LOW] * (VOCAB - 2)])


@pytest.mark.parametrize("place", [0, 5, LENGTH - 1])
def test_perturbed_scores_within_the_tie_are_a_tie_and_others_are_not(place: int) -> None:
    sampling = Sampling(temperature=WARM, seed=3)
    for gap, ties in ((0.5 * TIE / WARM, 1), (0.9 * TIE / WARM, 1), (1.1 * TIE / WARM, 0)):
        target = levelled(sampling, place, gap)
        plain = plain_output(target, sampling)
        assert plain[place] == 0
        found = check(target, sampling, changed_at(place, plain, 1), plain)
        assert found == Equality(LENGTH, ties, 1 - ties)


def test_the_tie_is_measured_in_logits_whatever_the_temperature() -> None:
    for temperature in (0.1, 1.0, 10.0):
        sampling = Sampling(temperature=temperature, seed=3)
        for share, ties in ((0.9, 1), (1.1, 0)):
            target = levelled(sampling, 0, share * TIE / temperature)
            plain = plain_output(target, sampling)
            assert check(target, sampling, changed_at(0, plain, 1), plain).ties == ties


def test_a_token_with_another_above_it_and_the_choice_is_changed() -> None:
    sampling = Sampling(temperature=1.0, seed=3)
    drawn = noise(sampling, 0)
    target = MadeUp([*(float(x - drawn[i]) for i, x in enumerate((2e-4, 1e-4, 0.0))), *[LOW] * 3])
    plain = plain_output(target, sampling)
    assert plain[0] == 0
    assert check(target, sampling, changed_at(0, plain, 1), plain).ties == 1
    assert check(target, sampling, changed_at(0, plain, 2), plain).changed == 1


# Four tokens in steps of 1; the edge lies between tokens 1 and 2, `gap` logits apart.


def probability_above(logits: list[float], token: int) -> float:
    probs = torch.tensor(logits, dtype=torch.float64).softmax(dim=-1)
    return float(probs[:token].sum())


def edge_case(rule: str, gap: float) -> tuple[Sampling, MadeUp]:
    """Token 2 misses being kept by a change of about `gap` in its logit."""
    logits = [1.0, 0.5, 0.5 - gap, -1.0, LOW, LOW]
    if rule == "top-k":
        return Sampling(temperature=1.0, top_k=2), MadeUp(logits)
    logits[2] = 0.0
    if rule == "min-p":
        logits[2] -= gap
        return Sampling(temperature=1.0, min_p=float(np.exp(-1.0))), MadeUp(logits)
    # token 2 is kept as long as those above it have less than top-p
    above = probability_above(logits, 2) * (1 - gap)
    return Sampling(temperature=1.0, top_p=above), MadeUp(logits)


def winning_seed(sampling: Sampling, logits: torch.Tensor, kept: int, token: int) -> Sampling:
    """A seed under which `token` has the best score at place 0, and of the first `kept` token 0."""
    for seed in range(500):
        tried = replace(sampling, seed=seed)
        scores = logits[0] + noise(tried, 0)
        if int(scores.argmax()) == token and int(scores[:kept].argmax()) == 0:
            return tried
    raise AssertionError("no seed found")


@pytest.mark.parametrize("rule", ["top-k", "top-p", "min-p"])
def test_a_token_at_the_edge_is_a_tie_when_it_would_win_inside(rule: str) -> None:
    for gap, ties in ((0.2 * TIE, 1), (20 * TIE, 0)):
        sampling, target = edge_case(rule, gap)
        sampling = winning_seed(sampling, target.logits, 2, 2)
        plain = plain_output(target, sampling)
        assert plain[0] == 0
        assert check(target, sampling, changed_at(0, plain, 2), plain) == Equality(
            LENGTH, ties, 1 - ties
        )
        # the third token is nowhere near the edge
        assert check(target, sampling, changed_at(0, plain, 3), plain).changed == 1


@pytest.mark.parametrize("rule", ["top-k", "top-p", "min-p"])
def test_the_token_that_wins_without_a_choice_at_the_edge_is_a_tie(rule: str) -> None:
    """The other way round: plain decoding keeps token 2, which rounding could leave out."""
    for gap, ties in ((-0.2 * TIE, 1), (-20 * TIE, 0)):
        sampling, target = edge_case(rule, gap)
        sampling = winning_seed(sampling, target.logits, 2, 2)
        plain = plain_output(target, sampling)
        assert plain[0] == 2
        assert check(target, sampling, changed_at(0, plain, 0), plain).ties == ties


def test_a_token_at_the_edge_that_would_not_win_inside_is_changed() -> None:
    sampling, target = edge_case("top-p", 0.2 * TIE)
    for seed in range(500):
        sampling = replace(sampling, seed=seed)
        scores = target.logits[0] + noise(sampling, 0)
        best = scores[:3].sort(descending=True)
        if int(best.indices[0]) != 2 and all(x - y > 0.1 for x, y in pairwise(best.values)):
            break
    plain = plain_output(target, sampling)
    assert plain[0] != 2
    assert check(target, sampling, changed_at(0, plain, 2), plain).changed == 1


def test_a_token_of_another_seed_or_request_or_place_is_changed() -> None:
    """The witness draws the noise of this request at this place, and no other."""
    target, sampling = MadeUp([0.0] * VOCAB), Sampling(temperature=1.0, seed=3)
    plain = plain_output(target, sampling)
    others = (
        plain_output(target, replace(sampling, seed=4)),
        plain_output(target, sampling, index=1),
        [*plain[1:], plain[0]],
    )
    for output in others:
        assert check(target, sampling, output, plain).changed > LENGTH / 2
    assert check(target, sampling, plain, others[0]) == Equality(LENGTH, 0, 0)


def test_a_greedy_choice_is_judged_after_its_repetition_penalty() -> None:
    logits = [4.0, 1.0, 1.0, 2.0 - 1e-4, LOW, LOW]  # token 0 is in the prompt: 4 becomes 2
    target, penalised = MadeUp(logits), Sampling(repetition_penalty=2.0)
    plain = plain_output(target, penalised)
    assert plain[0] == 0
    assert check(target, penalised, changed_at(0, plain, 3), plain).ties >= 1
    greedy = plain_output(target, GREEDY)
    assert check(target, GREEDY, changed_at(0, greedy, 3), greedy).changed == 1


def test_an_output_that_a_stop_string_ended_has_lost_nothing() -> None:
    sampling = Sampling(temperature=WARM, seed=3)
    target = levelled(sampling, 0, 0.5 * TIE / WARM)
    plain = plain_output(target, sampling)
    done = progress_of(sampling, [1, *plain[1:4]])
    assert compare(target, done, plain, frozenset()).changed == 1  # type: ignore[arg-type]
    done.stopped = True
    assert compare(target, done, plain, frozenset()).changed == 0  # type: ignore[arg-type]

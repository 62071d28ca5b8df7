"""The rule that was simulated is the rule that runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from smartprof.decode.requests import Request
from smartprof.decode.sampling import GREEDY, Sampling
from smartprof.drafters.base import Drafter
from smartprof.trees.recording import Recording
from tests.replaying import (
    FixedOracle,
    TwoSources,
    first_difference,
    frozen_ngram,
    really,
    recorded,
    replayed,
)
from tests.tiny_decoding import POLICIES, decoded, loud_model, outputs, random_requests, truth_of

SAMPLED = Sampling(temperature=0.7, top_p=0.9, seed=5)
DRAFTERS: dict[str, Callable[..., Drafter]] = {
    "ngram": lambda truth: frozen_ngram(),
    "model": FixedOracle,
    "both": TwoSources,
}


@cache
def requests_of(sampling: Sampling) -> tuple[Request, ...]:
    """Of different lengths, so that rows change places and requests refill them."""
    made = random_requests(6, seed=4, new=26, sampling=sampling)
    return tuple(replace(x, max_new_tokens=26 - 3 * i) for i, x in enumerate(made))


@cache
def plain_of(sampling: Sampling) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, outputs(decoded(loud_model(), "plain", requests_of(sampling), 3))))


def made(drafter: str, sampling: Sampling) -> Drafter:
    plain = [list(x) for x in plain_of(sampling)]
    return DRAFTERS[drafter](truth_of(requests_of(sampling), plain))


@cache
def recording_of(drafter: str, sampling: Sampling) -> Recording:
    return recorded(made(drafter, sampling), requests_of(sampling))


CASES = [
    *((x, y, GREEDY, 3) for x in POLICIES for y in DRAFTERS),
    *((x, "both", SAMPLED, y) for x in ("chain:k=5", "smart") for y in (1, 3)),
    ("eagle2:m=9:depth=4:k=3", "model", SAMPLED, 2),
]


@pytest.mark.parametrize(
    "policy, drafter, sampling, batch", CASES, ids=lambda x: getattr(x, "describe", lambda: x)()
)
def test_a_replay_is_the_decoding_round_for_round(
    policy: str, drafter: str, sampling: Sampling, batch: int
) -> None:
    """Trees, accepted and committed tokens, sources and modelled seconds, to the last bit."""
    real = really(made(drafter, sampling), policy, requests_of(sampling), batch)
    again = replayed(recording_of(drafter, sampling), policy, batch)
    assert again.missing == 0
    assert first_difference(real, again) is None
    if drafter != "ngram":
        assert real.accepted > 10  # something was at stake

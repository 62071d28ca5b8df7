"""The rule that was simulated is the rule that runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest

from smartprof.decode.record import TraceSize
from smartprof.decode.requests import Request
from smartprof.decode.sampling import GREEDY, Sampling
from smartprof.drafters.base import Drafter
from smartprof.errors import InputError
from smartprof.simulate.replay import RecordedWorld
from smartprof.simulate.run import Study, simulate
from smartprof.trees.recording import Recording
from tests.replaying import (
    COSTS,
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


def test_an_output_that_ended_early_is_replayed_to_its_end() -> None:
    """Ends lie within accepted paths; what the target would have said behind them is not known."""
    requests, plain = requests_of(GREEDY), plain_of(GREEDY)
    eos = frozenset({plain[0][7], plain[3][11]})
    recording = recorded(made("both", GREEDY), requests, eos=eos)
    lengths = np.diff(recording.output_start)
    assert (lengths < recording.most_new).any()
    for policy in ("chain:k=5", "smart"):
        real = really(made("both", GREEDY), policy, requests, 3, eos)
        assert first_difference(real, replayed(recording, policy, 3)) is None


def test_what_is_recorded_does_not_depend_on_the_batch() -> None:
    one, three = (
        recorded(made("both", GREEDY), requests_of(GREEDY), 1),
        recording_of("both", GREEDY),
    )
    for field in (x.name for x in fields(Recording) if x.name != "facts"):
        np.testing.assert_array_equal(getattr(one, field), getattr(three, field))


def test_the_forced_reject_run_decodes_plainly() -> None:
    recording = recording_of("both", GREEDY)
    outputs = np.split(recording.output, recording.output_start[1:-1])
    assert tuple(tuple(x.tolist()) for x in outputs) == plain_of(GREEDY)


def spoiled(recording: Recording, how: str) -> Recording:
    """A sound recording of something else."""
    if how == "trees permuted":  # every request keeps its output and gets the trees of others
        order = np.random.default_rng(0).permutation(recording.trees)
        nodes = np.concatenate([np.flatnonzero(recording.tree == x) for x in order])
        starts = np.concatenate([[0], np.diff(recording.tree_start)[order].cumsum()])
        taken = {
            x: getattr(recording, x)[nodes] for x in ("parent", "token", "conditional", "asked")
        }
        return replace(recording, tree_start=starts, **taken)
    if how == "outputs permuted":
        return replace(recording, output=np.random.default_rng(0).permutation(recording.output))
    if how == "one probability":
        conditional = recording.conditional.copy()
        conditional[0] *= 1 - 1e-12
        return replace(recording, conditional=conditional)
    return replace(recording, pending=recording.pending + 1)


@pytest.mark.parametrize(
    "how", ["trees permuted", "outputs permuted", "one probability", "more pending"]
)
def test_a_replay_of_something_else_is_noticed(how: str) -> None:
    """Negative control for equality, down to one number of one node."""
    recording = spoiled(recording_of("model", GREEDY), how)
    recording.validate("spoiled")
    real = really(made("model", GREEDY), "smart", requests_of(GREEDY), 3)
    assert first_difference(real, replayed(recording, "smart", 3)) is not None


def test_what_was_not_drafted_is_counted_and_never_guessed() -> None:
    narrow = recorded(made("model", GREEDY), requests_of(GREEDY), size=TraceSize(2, 3))
    known = set(zip(narrow.token.tolist(), narrow.conditional.tolist(), strict=True))
    found = replayed(narrow, "eagle2:m=20:depth=6:k=6", 3)
    assert found.missing > 0
    for round, _ in found.seen:
        forest, batch = round.forest, round.batch
        assert forest.depth.max() <= 3
        conditional = forest.path_prob[batch:] / forest.path_prob[forest.parent[batch:]]
        for token, value in zip(forest.token[batch:].tolist(), conditional.tolist(), strict=True):
            assert any(token == x and value == pytest.approx(y) for x, y in known)
    assert replayed(narrow, "chain:k=3", 3).missing == 0  # the best children are always there


def test_a_policy_that_the_trace_is_too_narrow_for_is_refused() -> None:
    world = RecordedWorld(
        recorded(made("model", GREEDY), requests_of(GREEDY), size=TraceSize(2, 3))
    )
    list(simulate(world, COSTS, Study(["chain:k=3"], [2])))
    with pytest.raises(InputError, match=r"eagle2:m=20.* of the expansions"):
        list(simulate(world, COSTS, Study(["eagle2:m=20:depth=6:k=6"], [2])))


@pytest.mark.parametrize("batch", [1, 3])
def test_the_oracle_is_never_below_another_policy_in_a_replay(batch: int) -> None:
    """It has the choice between two sources here, and pays for what they have yet to take in."""
    world = RecordedWorld(recording_of("both", GREEDY))
    found = simulate(world, COSTS, Study([*POLICIES, "oracle"], [batch], seed=1))
    rates = {x.result.policy: x.rate for x in found}
    assert max(rates, key=lambda x: rates[x]) == "oracle"

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from smartprof.decode.equality import compare
from smartprof.decode.records import Equality
from smartprof.decode.requests import Progress, Request
from smartprof.decode.run import cycled
from smartprof.decode.target import Target
from smartprof.drafters.ngram import NgramDrafter
from smartprof.models.transformer import Transformer
from smartprof.policies.base import NO_NODES
from smartprof.trees.packed import Accepted, PackedTrees
from tests.tiny_decoding import (
    CAPACITY,
    POLICIES,
    TINY,
    OracleDrafter,
    WholeTree,
    decoded,
    loud_model,
    outputs,
    random_requests,
    truth_of,
)


@pytest.fixture(scope="module")
def model() -> Transformer:
    return loud_model()


@pytest.mark.parametrize("batch", [1, 3, 5])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_decodes_what_plain_decoding_does(
    model: Transformer, policy: str, batch: int
) -> None:
    requests = random_requests(8)
    plain = outputs(decoded(model, "plain", requests, batch))
    assert outputs(decoded(model, policy, requests, batch)) == plain


@pytest.mark.parametrize("policy", POLICIES)
def test_trees_with_accepted_branches_anywhere_are_lossless(
    model: Transformer, policy: str
) -> None:
    requests = random_requests(6, seed=4)
    plain = outputs(decoded(model, "plain", requests, 3))
    truth = truth_of(requests, plain)
    lane = decoded(model, policy, requests, 3, OracleDrafter(truth, 1))
    assert outputs(lane) == plain
    assert sum(int(x.accepted.sum()) for x in lane.counted) > 10  # drafts were really accepted


@pytest.mark.long
@pytest.mark.parametrize("drafter", ["ngram", "oracle"])
def test_a_hundred_thousand_tokens_are_those_of_plain_decoding(
    model: Transformer, drafter: str
) -> None:
    """50,000 speculative tokens for each drafter, over policies and batches of 1 to 16."""
    found = Equality(0, 0, 0)
    for seed, batch in enumerate((1, 2, 4, 8, 16)):
        requests = random_requests(max(24, 3 * batch), seed=seed, new=120)
        plain_lane = decoded(model, "plain", requests, batch)
        plain = {x.index: x.output for x in plain_lane.finished}
        truth = {requests[x].tokens: y for x, y in plain.items()}
        for policy in POLICIES:
            made = OracleDrafter(truth, seed) if drafter == "oracle" else NgramDrafter()
            lane = decoded(model, policy, requests, batch, made)
            for done in lane.finished:
                found += compare(lane.decoder.target, done, plain[done.index], frozenset())
    assert found.tokens >= 50_000
    assert found.identical, found


def test_a_verifier_that_never_accepts_still_decodes_plainly(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced rejection separates bugs of state from bugs of acceptance."""

    def reject(trees: PackedTrees, choice: NDArray[np.int64]) -> Accepted:
        return Accepted([NO_NODES] * len(trees.counts), choice[trees.offset])

    requests = random_requests(5, seed=2)
    plain = outputs(decoded(model, "plain", requests, 2))
    truth = truth_of(requests, plain)
    monkeypatch.setattr("smartprof.decode.rounds.accept", reject)
    assert outputs(decoded(model, WholeTree(), requests, 2, OracleDrafter(truth, 0))) == plain


def test_forgetting_to_move_accepted_entries_would_be_noticed(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control for the lossless tests."""
    requests = random_requests(6, seed=4)
    plain = outputs(decoded(model, "plain", requests, 3))
    truth = truth_of(requests, plain)
    monkeypatch.setattr(Target, "keep", lambda *_: None)
    assert outputs(decoded(model, WholeTree(), requests, 3, OracleDrafter(truth, 1))) != plain


def test_end_of_sequence_inside_an_accepted_path_ends_the_output(model: Transformer) -> None:
    requests = random_requests(6, seed=4)
    plain = outputs(decoded(model, "plain", requests, 3))
    truth = truth_of(requests, plain)
    eos = frozenset({plain[0][7], plain[3][11]})
    ended = outputs(decoded(model, "plain", requests, 3, eos=eos))
    drafted = outputs(decoded(model, WholeTree(), requests, 3, OracleDrafter(truth, 1), eos=eos))
    assert drafted == ended
    assert any(len(x) < 40 and x[-1] in eos for x in ended)
    assert all(not eos & set(x[:-1]) for x in ended)


def test_no_output_exceeds_the_requested_length(model: Transformer) -> None:
    requests = random_requests(4, new=7)
    for policy in POLICIES:
        assert all(len(x) == 7 for x in outputs(decoded(model, policy, requests, 2)))


def test_only_full_batches_count_and_records_add_up(model: Transformer) -> None:
    lane = decoded(model, "smart", random_requests(7), 3)
    assert all(len(x.committed) == 3 for x in lane.counted)
    counted = sum(int(x.committed.sum()) for x in lane.counted)
    assert counted < lane.tokens == sum(len(x.output) for x in lane.finished)
    for record in lane.counted:
        np.testing.assert_array_equal(record.committed >= 1, True)
        assert (record.accepted + 1 >= record.committed).all()
        assert record.draft_seconds + record.verify_seconds <= record.seconds


def test_prompts_are_cycled_to_three_times_the_batch() -> None:
    requests = random_requests(5)
    queue = cycled(requests, 4)
    assert len(queue) == 12
    assert [x.prompt_id for _, x in queue][5:7] == ["p0", "p1"]
    assert len(cycled(requests, 1)) == 5


def test_a_changed_token_is_found_and_a_tie_is_told_apart(model: Transformer) -> None:
    lane = decoded(model, "plain", random_requests(1, seed=9), 1)
    done = lane.finished[0]
    plain = [*done.output]
    target = Target(model, 1, CAPACITY)
    assert compare(target, done, plain, frozenset()).identical
    done.output[20] = (plain[20] + 1) % TINY.vocab
    found = compare(target, done, plain, frozenset())
    assert found.changed >= 1
    assert not found.identical
    done.output[:] = plain[:-3]
    assert not compare(target, done, plain, frozenset()).identical


def test_a_request_ends_at_its_first_end_of_sequence() -> None:
    progress = Progress(Request("p", "c", "s", (1, 2), 5), 0)
    assert progress.commit([4, 9, 5], frozenset({9})) == [4, 9]
    assert progress.ended
    assert progress.context_len == 4

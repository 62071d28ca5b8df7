from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from smartprof.decode.equality import Equality, compare
from smartprof.decode.requests import Progress, Request
from smartprof.decode.rounds import Decoder
from smartprof.decode.run import Lane, cycled, run_lanes
from smartprof.decode.target import Target
from smartprof.drafters.base import Drafter
from smartprof.drafters.ngram import NgramDrafter
from smartprof.models.shapes import named_shape
from smartprof.models.transformer import Transformer
from smartprof.models.weights import random_weights
from smartprof.policies.base import NO_NODES, Cut, Policy, Round
from smartprof.policies.table import make_policy
from smartprof.trees.forest import Children, Forest
from smartprof.trees.packed import Accepted, PackedTrees
from tests.costs import TableCosts, line

TINY = named_shape("tiny-llama")
POLICIES = ("chain:k=5", "eagle2:m=9:depth=4:k=3", "smart")
CAPACITY = 200


@pytest.fixture(scope="module")
def model() -> Transformer:
    """Random weights, large enough that outputs vary."""
    weights = random_weights(TINY, 3, torch.float32, "cpu")
    scaled = {x: y if x.endswith("norm.weight") else y * 6 for x, y in weights.items()}
    return Transformer(TINY, scaled)


def _requests(count: int, seed: int = 0, new: int = 40) -> list[Request]:
    """Prompts that repeat themselves, so that n-grams have something to find."""
    rng = np.random.default_rng(seed)
    prompts = []
    for number in range(count):
        phrase = rng.integers(0, TINY.vocab, rng.integers(3, 9)).tolist()
        tokens = tuple(phrase * int(rng.integers(1, 5)))
        prompts.append(Request(f"p{number}", "test", "test", tokens, new))
    return prompts


class OracleDrafter(Drafter):
    """Knows the plain outputs and proposes the truth beside wrong tokens, more or less often."""

    name = digest = "oracle"
    kind = "test"

    def __init__(self, truth: dict[tuple[int, ...], list[int]], seed: int) -> None:
        self.truth, self.rng = truth, np.random.default_rng(seed)
        self.rows: dict[int, tuple[tuple[int, ...], list[int]]] = {}

    def admit(self, row: int, tokens: tuple[int, ...]) -> None:  # type: ignore[override]
        self.rows[row] = (tuple(tokens), [])

    def commit(self, row: int, tokens: list[int]) -> None:  # type: ignore[override]
        self.rows[row][1].extend(tokens)

    def release(self, row: int) -> None:
        del self.rows[row]

    def move(self, source: int, target: int) -> None:
        self.rows[target] = self.rows.pop(source)

    def expand(self, forest: Forest, nodes: NDArray[np.int64]) -> Children:
        parents, tokens = [], []
        for node in nodes.tolist():
            prompt, output = self.rows[int(forest.request[node])]
            place = len(output) + int(forest.depth[node])
            future = self.truth[prompt][place : place + 1]
            wrong = [x for x in self.rng.permutation(TINY.vocab)[:3].tolist() if x not in future]
            chosen = self.rng.permutation(np.array(wrong + future, np.int64)).tolist()
            parents += [node] * len(chosen)
            tokens += chosen
        probability = self.rng.uniform(0.1, 0.25, len(tokens))
        return Children(np.array(parents, np.int32), np.array(tokens, np.int64), probability)


def _run(
    model: Transformer,
    policy: str | Policy,
    requests: list[Request],
    batch: int,
    drafter: Drafter | None = None,
    eos: frozenset[int] = frozenset(),
) -> Lane:
    chosen = make_policy(policy) if isinstance(policy, str) else policy
    target = Target(model, batch, CAPACITY)
    decoder = Decoder(
        target,
        drafter or NgramDrafter(),
        chosen,
        TableCosts(line(1.0, 0.01), line(0.01, 0.001)),
        eos,
    )
    lane = Lane("test", decoder, batch, deque(enumerate(requests)))
    run_lanes([lane], lambda _: None)
    return lane


def _outputs(lane: Lane) -> list[list[int]]:
    return [x.output for x in sorted(lane.finished, key=lambda x: x.index)]


@pytest.mark.parametrize("batch", [1, 3, 5])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_decodes_what_plain_decoding_does(
    model: Transformer, policy: str, batch: int
) -> None:
    requests = _requests(8)
    plain = _outputs(_run(model, "plain", requests, batch))
    assert _outputs(_run(model, policy, requests, batch)) == plain


@pytest.mark.parametrize("policy", POLICIES)
def test_trees_with_accepted_branches_anywhere_are_lossless(
    model: Transformer, policy: str
) -> None:
    requests = _requests(6, seed=4)
    plain = _outputs(_run(model, "plain", requests, 3))
    truth = {x.tokens: y for x, y in zip(requests, plain, strict=True)}
    lane = _run(model, policy, requests, 3, OracleDrafter(truth, 1))
    assert _outputs(lane) == plain
    assert sum(int(x.accepted.sum()) for x in lane.counted) > 10  # drafts were really accepted


@pytest.mark.long
@pytest.mark.parametrize("drafter", ["ngram", "oracle"])
def test_a_hundred_thousand_tokens_are_those_of_plain_decoding(
    model: Transformer, drafter: str
) -> None:
    """50,000 speculative tokens for each drafter, over policies and batches of 1 to 16."""
    found = Equality(0, 0, 0)
    for seed, batch in enumerate((1, 2, 4, 8, 16)):
        requests = _requests(max(24, 3 * batch), seed=seed, new=120)
        plain_lane = _run(model, "plain", requests, batch)
        plain = {x.index: x.output for x in plain_lane.finished}
        truth = {requests[x].tokens: y for x, y in plain.items()}
        for policy in POLICIES:
            made = OracleDrafter(truth, seed) if drafter == "oracle" else NgramDrafter()
            lane = _run(model, policy, requests, batch, made)
            for done in lane.finished:
                found += compare(lane.decoder.target, done, plain[done.index], frozenset())
    assert found.tokens >= 50_000
    assert found.identical, found


class WholeTree(Policy):
    """Everything that is proposed, two layers deep."""

    name = "whole-tree"

    def grow(self, round: Round) -> NDArray[np.int64]:
        deep = round.forest.depth.max() >= 2
        return NO_NODES if deep else round.forest.frontier

    def cut(self, round: Round) -> Cut:
        nodes = np.arange(round.batch, round.forest.size)
        fits = round.forest.depth[nodes] < round.room[round.forest.request[nodes]]
        return Cut(nodes[fits], round.batch + int(fits.sum()))


def test_a_verifier_that_never_accepts_still_decodes_plainly(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced rejection separates bugs of state from bugs of acceptance."""

    def reject(trees: PackedTrees, choice: NDArray[np.int64]) -> Accepted:
        return Accepted([NO_NODES] * len(trees.counts), choice[trees.offset])

    requests = _requests(5, seed=2)
    plain = _outputs(_run(model, "plain", requests, 2))
    truth = {x.tokens: y for x, y in zip(requests, plain, strict=True)}
    monkeypatch.setattr("smartprof.decode.rounds.accept", reject)
    assert _outputs(_run(model, WholeTree(), requests, 2, OracleDrafter(truth, 0))) == plain


def test_forgetting_to_move_accepted_entries_would_be_noticed(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control for the lossless tests."""
    requests = _requests(6, seed=4)
    plain = _outputs(_run(model, "plain", requests, 3))
    truth = {x.tokens: y for x, y in zip(requests, plain, strict=True)}
    monkeypatch.setattr(Target, "keep", lambda *_: None)
    assert _outputs(_run(model, WholeTree(), requests, 3, OracleDrafter(truth, 1))) != plain


def test_end_of_sequence_inside_an_accepted_path_ends_the_output(model: Transformer) -> None:
    requests = _requests(6, seed=4)
    plain = _outputs(_run(model, "plain", requests, 3))
    truth = {x.tokens: y for x, y in zip(requests, plain, strict=True)}
    eos = frozenset({plain[0][7], plain[3][11]})
    ended = _outputs(_run(model, "plain", requests, 3, eos=eos))
    drafted = _outputs(_run(model, WholeTree(), requests, 3, OracleDrafter(truth, 1), eos=eos))
    assert drafted == ended
    assert any(len(x) < 40 and x[-1] in eos for x in ended)
    assert all(not eos & set(x[:-1]) for x in ended)


def test_no_output_exceeds_the_requested_length(model: Transformer) -> None:
    requests = _requests(4, new=7)
    for policy in POLICIES:
        assert all(len(x) == 7 for x in _outputs(_run(model, policy, requests, 2)))


def test_only_full_batches_count_and_records_add_up(model: Transformer) -> None:
    lane = _run(model, "smart", _requests(7), 3)
    assert all(len(x.committed) == 3 for x in lane.counted)
    counted = sum(int(x.committed.sum()) for x in lane.counted)
    assert counted < lane.tokens == sum(len(x.output) for x in lane.finished)
    for record in lane.counted:
        np.testing.assert_array_equal(record.committed >= 1, True)
        assert (record.accepted + 1 >= record.committed).all()
        assert record.draft_seconds + record.verify_seconds <= record.seconds


def test_prompts_are_cycled_to_three_times_the_batch() -> None:
    requests = _requests(5)
    queue = cycled(requests, 4)
    assert len(queue) == 12
    assert [x.prompt_id for _, x in queue][5:7] == ["p0", "p1"]
    assert len(cycled(requests, 1)) == 5


def test_a_changed_token_is_found_and_a_tie_is_told_apart(model: Transformer) -> None:
    lane = _run(model, "plain", _requests(1, seed=9), 1)
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

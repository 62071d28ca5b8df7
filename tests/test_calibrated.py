"""Any drafter with calibrated probabilities: labels, losslessness, freezing, and what it buys."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from smartprof.drafters.base import Drafter
from smartprof.drafters.calibrated import CalibratedDrafter
from smartprof.drafters.confidence import Confidence
from smartprof.drafters.drafted_round import DraftedRound
from smartprof.drafters.evidence import EvidenceTable
from smartprof.drafters.hindsight import Hindsight, NodePaths
from smartprof.drafters.hybrid import Gate
from smartprof.drafters.ngram import NgramDrafter
from smartprof.policies.base import Cut, Outcome
from smartprof.policies.smart import Smart
from smartprof.policies.table import make_policy
from smartprof.trees.acceptance import Calibration, Labelled
from smartprof.trees.forest import Children, Forest
from tests.costs import TableCosts, line
from tests.forests import path_tokens, random_forest
from tests.synthetic_acceptance import (
    Stated,
    SyntheticDrafter,
    World,
    honest,
    overconfident,
    play,
)
from tests.tiny_decoding import (
    POLICIES,
    OracleDrafter,
    WholeTree,
    decoded,
    loud_model,
    outputs,
    random_requests,
    truth_of,
)

Group = tuple[tuple[float, bool], ...]  # stated probability and whether right, of siblings


def groups(seen: Labelled) -> list[Group]:
    """Sibling by sibling, in an order of their own."""
    pairs = list(zip(seen.proposals.stated.tolist(), seen.right.tolist(), strict=True))
    ends = [*seen.proposals.first.tolist()[1:], seen.size] if seen.size else []
    starts = seen.proposals.first.tolist()
    return sorted(tuple(sorted(pairs[x:y])) for x, y in zip(starts, ends, strict=True))


def layers(forest: Forest) -> list[tuple[Forest, Children]]:
    """How the forest would have been drafted: each step's forest and its children."""
    steps, grown = [], Forest.roots(forest.token[: forest.num_requests])
    for depth in range(1, int(forest.depth.max()) + 1):
        here = np.flatnonzero(forest.depth == depth)
        place = {int(x): y for y, x in enumerate(_order(forest, depth - 1))}
        parent = np.array([place[int(x)] for x in forest.parent[here]], np.int32)
        conditional = forest.path_prob[here] / forest.path_prob[forest.parent[here]]
        children = Children(parent, forest.token[here], conditional)
        steps.append((grown, children))
        grown = grown.extend(np.unique(parent), children)
    return steps


def _order(forest: Forest, depth: int) -> list[int]:
    """Nodes as `layers` numbers them: depth by depth."""
    return [int(x) for y in range(depth + 1) for x in np.flatnonzero(forest.depth == y)]


@pytest.mark.parametrize("seed", range(60))
def test_exactly_the_children_of_nodes_on_the_path_are_judged(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch = int(rng.integers(1, 4))
    forest = random_forest(rng, batch, 14, vocab=3)
    followed = [rng.integers(0, 3, rng.integers(0, 6)).tolist() for _ in range(batch)]
    drafted = DraftedRound(batch)
    for grown, children in layers(forest):
        drafted.note(grown, children)
    for request, tokens in enumerate(followed):
        drafted.follow(request, tokens[:2])
        drafted.follow(request, tokens[2:])
    expected: dict[int, list[tuple[float, bool]]] = {}
    for node in range(batch, forest.size):
        tokens, parent = followed[int(forest.request[node])], int(forest.parent[node])
        above = path_tokens(forest, parent)
        if tokens[: len(above)] == above and len(tokens) > len(above):
            stated = float(forest.path_prob[node] / forest.path_prob[parent])
            right = int(forest.token[node]) == tokens[len(above)]
            expected.setdefault(parent, []).append((stated, right))
    assert groups(drafted.labelled()) == sorted(tuple(sorted(x)) for x in expected.values())


def test_a_forest_that_was_not_grown_from_the_proposals_is_refused() -> None:
    forest = Forest.roots(np.array([1, 2]))
    drafted = DraftedRound(2)
    children = Children.checked([0, 1], [3, 4], [0.5, 0.5])
    drafted.note(forest, children)
    with pytest.raises(ValueError, match="expected a forest of 4 nodes"):
        drafted.note(forest, children)


class Watched(OracleDrafter):
    """Judges its own proposals path by path, in another way than the wrapper does."""

    def __init__(self, truth: dict[tuple[int, ...], list[int]], seed: int) -> None:
        super().__init__(truth, seed)
        self.seen: list[Group] = []
        self.hindsight: dict[int, Hindsight[Children]] = {}
        self.noted: dict[int, list[int]] = {}

    def admit(self, row: int, tokens: Sequence[int]) -> None:
        super().admit(row, tokens)
        self.hindsight[row], self.noted[row] = Hindsight(), []

    def commit(self, row: int, tokens: Sequence[int]) -> None:
        super().commit(row, tokens)
        self.noted[row].extend(tokens)

    def release(self, row: int) -> None:
        super().release(row)
        self.judge(row)
        del self.hindsight[row]

    def move(self, source: int, target: int) -> None:
        super().move(source, target)
        self.hindsight[target] = self.hindsight.pop(source)
        self.noted[target] = self.noted.pop(source)

    def expand(self, forest: Forest, nodes: NDArray[np.int64]) -> Children:
        for row in nodes[nodes < forest.num_requests].tolist():
            self.judge(row)
        found = super().expand(forest, nodes)
        paths = NodePaths()
        for node in nodes.tolist():
            mine = found.parent == node
            children = Children(found.parent[mine], found.token[mine], found.conditional[mine])
            self.hindsight[int(forest.request[node])].note(paths.of(forest, node), children)
        return found

    def judge(self, row: int) -> None:
        for children, token in self.hindsight[row].judge(self.noted[row]):
            right = (children.token == token).tolist()
            pairs = zip(children.conditional.tolist(), right, strict=True)
            self.seen.append(tuple(sorted(pairs)))
        self.noted[row] = []


def test_labels_survive_rows_that_end_move_and_are_filled_again() -> None:
    requests = random_requests(9, seed=4)
    plain = outputs(decoded(loud_model(), "plain", requests, 3))
    watched = Watched(truth_of(requests, plain), 1)
    drafter = CalibratedDrafter(watched, keep_labels=True)
    decoded(loud_model(), WholeTree(), requests, 3, drafter)
    seen = drafter.record().sources["oracle"].labelled
    assert seen.size > 500
    assert seen.right.sum() > 100
    assert set(seen.proposals.depth.tolist()) == {1, 2}
    assert groups(seen) == sorted(watched.seen)


@pytest.mark.parametrize("policy", POLICIES)
def test_decoding_with_calibrated_drafters_is_lossless(policy: str) -> None:
    requests = random_requests(6, seed=4)
    plain = outputs(decoded(loud_model(), "plain", requests, 3))
    drafter = CalibratedDrafter(OracleDrafter(truth_of(requests, plain), 1))
    lane = decoded(loud_model(), policy, requests, 3, drafter)
    assert outputs(lane) == plain
    assert sum(int(x.accepted.sum()) for x in lane.counted) > 10
    assert drafter.record().selected.size > 0
    assert np.abs(drafter.calibrations["oracle"].weights).max() > 0.01


def test_the_wrapper_passes_for_the_drafter_in_it() -> None:
    inner = NgramDrafter()
    drafter = CalibratedDrafter(inner)
    assert (drafter.name, drafter.digest, drafter.kind) == ("ngram", inner.digest, "ngram")
    assert (drafter.taps, drafter.caches, drafter.sources) == ((), (), ("ngram",))
    drafter.admit(0, [1, 2, 3, 1])
    drafter.commit(0, [2])
    assert drafter.pending("ngram") == 1
    assert drafter.outlook() == inner.outlook() > 0
    assert drafter.part("ngram") is inner


def play_ngrams(drafter: Drafter, rounds: int = 40) -> None:
    """One request that repeats itself now and then, a tree of two layers each round."""
    rng = np.random.default_rng(0)
    drafter.admit(0, [1, 2, 3, 4] * 4)
    newest = 4
    for _ in range(rounds):
        forest = Forest.roots(np.array([newest]))
        for _ in range(2):
            if (nodes := forest.frontier).size:
                forest = forest.extend(nodes, drafter.expand(forest, nodes))
        tokens = rng.integers(1, 5, 2).tolist()
        drafter.commit(0, tokens)
        nodes = np.arange(1, forest.size)
        accepted = np.zeros(forest.size, np.bool_)
        drafter.learn(Outcome(np.array([2]), 1.0, True, forest, Cut(nodes, forest.size), accepted))
        newest = tokens[-1]


def test_frozen_drafters_learn_nothing_but_are_still_judged() -> None:
    for frozen in (True, False):
        drafter = CalibratedDrafter(NgramDrafter(), keep_labels=True)
        before = drafter.statistics()["evidence"]
        if frozen:
            drafter.freeze()
        play_ngrams(drafter)
        found = drafter.record()
        assert found.sources["ngram"].labelled.size > 20
        assert found.selected.size > 20
        learned = drafter.calibrations["ngram"].weights.any()
        counted = not np.array_equal(found.statistics["evidence"], before)
        assert (learned, counted) == (not frozen, not frozen)


class TwoSources(NgramDrafter):
    """The same lookup under two names."""

    @property
    def sources(self) -> tuple[str, ...]:
        return ("first", "second")


def test_each_source_has_a_calibration_of_its_own() -> None:
    for source, other in (("first", "second"), ("second", "first")):
        drafter = CalibratedDrafter(TwoSources(), keep_labels=True)
        drafter.begin(source)
        play_ngrams(drafter)
        found = drafter.record().sources
        assert found[source].labelled.size > 20
        assert found[source].selected.size > 20
        assert found[other].labelled.size == found[other].selected.size == 0
        assert drafter.calibrations[source].weights.any()
        assert not drafter.calibrations[other].weights.any()


def test_two_sources_that_draft_the_same_round_are_both_judged() -> None:
    drafter = CalibratedDrafter(TwoSources(), keep_labels=True)
    drafter.admit(0, [1, 2, 3, 1, 2, 3, 1])
    for source in drafter.sources:
        drafter.begin(source)
        forest = Forest.roots(np.array([1]))
        drafter.expand(forest, forest.frontier)
    drafter.commit(0, [2])
    for found in drafter.record().sources.values():
        assert found.labelled.right.tolist() == [True]


def test_tokens_of_undrafted_rounds_judge_the_last_drafted_one_once() -> None:
    drafter = CalibratedDrafter(NgramDrafter(), keep_labels=True)
    drafter.admit(0, [1, 2, 3, 1, 2, 3, 1])
    forest = Forest.roots(np.array([1]))
    for _ in range(3):
        nodes = forest.frontier
        forest = forest.extend(nodes, drafter.expand(forest, nodes))
    for token in (2, 3, 1, 2, 3):  # a plain round each
        drafter.begin("ngram")
        drafter.commit(0, [token])
    seen = drafter.record().sources["ngram"].labelled
    assert seen.proposals.depth[seen.right].tolist() == [1, 2, 3]
    assert drafter.record().sources["ngram"].labelled.size == seen.size


def test_what_a_drafter_counted_can_be_handed_to_another() -> None:
    first, second = NgramDrafter(), NgramDrafter()
    play_ngrams(first)
    assert first.evidence.rates != second.evidence.rates
    second.recall(first.statistics())
    np.testing.assert_allclose(first.evidence.rates, second.evidence.rates)
    with pytest.raises(KeyError):
        second.recall({})
    with pytest.raises(ValueError, match="expected evidence of"):
        second.recall({"evidence": np.ones((2, 3))})


def observe_confidence(confidence: Confidence) -> None:
    confidence.observe(np.array([0.4, 0.2]), np.array([True, False]))


def observe_gate(gate: Gate) -> None:
    gate.observe(np.array([0.5, 0.0]), np.array([0.0, 0.3]), np.array([True, False]))


@pytest.mark.parametrize(
    ("make", "observe"),
    [
        (Confidence, observe_confidence),
        (Gate, observe_gate),
        (EvidenceTable, lambda x: x.observe(3, 0.5, True)),
    ],
)
def test_counts_are_what_was_observed_and_stay_when_frozen(
    make: Callable[[], Confidence | Gate | EvidenceTable],
    observe: Callable[[Confidence | Gate | EvidenceTable], None],
) -> None:
    learned, copy = make(), make()
    observe(learned)
    assert not np.array_equal(learned.counts, make().counts)
    copy.counts = learned.counts
    observe(copy)  # must not reach into the other
    assert not np.array_equal(learned.counts, copy.counts)
    frozen = learned.counts
    learned.freeze()
    observe(learned)
    np.testing.assert_array_equal(learned.counts, frozen)


BATCH, ROUNDS = 8, 700
COSTS = TableCosts(line(1.0, 0.02, 600), line(0.05, 0.004, 600), 0.06)


def frozen_play(stated: Stated, start: Calibration) -> tuple[float, float]:
    """`smart`'s modelled tokens per second on held-out texts, and the error of what it verified."""
    world = World(BATCH, seed=2)
    drafter = CalibratedDrafter(SyntheticDrafter(world, stated), {"synthetic": start})
    drafter.freeze()
    rate, _ = play(world, drafter, Smart(), COSTS, ROUNDS)
    error = drafter.record().selected.error
    assert error is not None
    return rate, error


def test_smart_loses_little_to_an_overconfident_drafter_once_it_is_calibrated() -> None:
    development = World(BATCH, seed=1)
    learning = CalibratedDrafter(SyntheticDrafter(development, overconfident), keep_labels=True)
    play(development, learning, Smart(), COSTS, ROUNDS)
    fitted = Calibration.identity().fitted(learning.record().sources["synthetic"].labelled)
    best, _ = frozen_play(honest, Calibration.identity())
    calibrated, error = frozen_play(overconfident, fitted)
    uncalibrated, control = frozen_play(overconfident, Calibration.identity())
    assert calibrated >= 0.97 * best
    assert error < 0.03
    assert uncalibrated < 0.97 * best  # negative control: the same, if nothing is put right
    assert control > 0.03


def test_without_calibration_an_ablation_goes_by_what_the_drafter_states() -> None:
    start = Calibration(np.full(6, 0.5), np.eye(6))
    drafter = CalibratedDrafter(NgramDrafter(), {"ngram": start})
    plain = NgramDrafter()
    for x in (drafter, plain):
        x.admit(0, [5, 6, 7, 5, 6])
    forest = Forest.roots(np.array([6]))
    calibrated = drafter.expand(forest, forest.frontier).conditional
    stated = plain.expand(forest, forest.frontier).conditional
    assert not np.allclose(calibrated, stated)
    drafter.uncalibrate()
    np.testing.assert_allclose(drafter.expand(forest, forest.frontier).conditional, stated)
    assert make_policy("smart").calibrated
    assert not make_policy("smart-without:part=calibration").calibrated

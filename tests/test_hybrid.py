"""Lookup and model in one tree, and the choice between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from smartprof.drafters.base import Drafter
from smartprof.drafters.confidence import Confidence
from smartprof.drafters.hybrid import Gate, HybridDrafter, merge
from smartprof.drafters.ngram import NgramDrafter
from smartprof.policies.base import Offer, Outcome, Round
from smartprof.policies.smart import Smart
from smartprof.trees.forest import NO_CHILDREN, Children, Forest
from tests.costs import TableCosts, line


@st.composite
def children(draw: st.DrawFn) -> Children:
    """Distinct siblings below three parents, in any order."""
    pairs = draw(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=12))
    listed = draw(st.permutations(sorted(pairs)))
    if not listed:
        return NO_CHILDREN
    parent, token = np.array(listed).T
    share = draw(st.floats(0.02, 1.0))
    return Children.checked(parent, token, np.full(len(listed), share / 6))


def by_pair(found: Children) -> dict[tuple[int, int], float]:
    pairs = zip(found.parent.tolist(), found.token.tolist(), strict=True)
    return dict(zip(pairs, found.conditional.tolist(), strict=True))


@given(lookup=children(), model=children())
def test_a_merged_tree_has_each_token_once_and_keeps_both_opinions(
    lookup: Children, model: Children
) -> None:
    merged = merge(lookup, model)
    pairs = list(zip(merged.parent.tolist(), merged.token.tolist(), strict=True))
    first, second = by_pair(lookup), by_pair(model)
    assert pairs == sorted(first.keys() | second.keys())
    assert merged.lookup.tolist() == [first.get(x, 0.0) for x in pairs]
    assert merged.model.tolist() == [second.get(x, 0.0) for x in pairs]


@given(lookup=children(), model=children())
def test_siblings_over_both_sources_sum_to_at_most_one(lookup: Children, model: Children) -> None:
    merged = merge(lookup, model)
    if not len(merged.parent):
        return
    found = merged.conditional(Gate())
    Children.checked(merged.parent, merged.token, found)
    alone = {
        int(x)
        for x in merged.parent
        if not (lookup.parent == x).any() or not (model.parent == x).any()
    }
    for parent, one, other, mixed in zip(
        merged.parent.tolist(), merged.lookup, merged.model, found, strict=True
    ):
        if parent in alone:  # only one source has an opinion: it stands
            assert mixed == pytest.approx(one + other)
        assert min(one, other) - 1e-12 <= mixed <= max(one, other) + 1e-12


@pytest.mark.parametrize("lookup_right", [True, False])
def test_the_gate_learns_whom_to_believe(lookup_right: bool) -> None:
    gate = Gate()
    lookup, model = np.array([0.5, 0.0]), np.array([0.0, 0.5])
    before = float(gate.weight(np.array([0.5]), np.array([0.5]))[0])
    for _ in range(60):
        gate.observe(lookup, model, np.array([lookup_right, not lookup_right]))
    after = float(gate.weight(np.array([0.5]), np.array([0.5]))[0])
    assert before == pytest.approx(0.5)
    assert after > 0.85 if lookup_right else after < 0.15
    elsewhere = float(gate.weight(np.array([0.9]), np.array([0.1]))[0])
    assert elsewhere == pytest.approx(0.9 / 0.98)  # other evidence is another bin


def test_a_mixture_predicts_at_least_as_well_as_its_better_half() -> None:
    """Mean log probability of what followed, where the lookup is right in one world of two."""
    rng = np.random.default_rng(3)
    gate = Gate()
    gains = {"mixed": 0.0, "lookup": 0.0, "model": 0.0}
    for turn in range(3000):
        sure = rng.random() < 0.5
        lookup = np.array([0.7 if sure else 0.2, 0.05, 0.0])
        model = np.array([0.1, 0.05, 0.3])
        truth = rng.choice(3, p=[0.7, 0.1, 0.2] if sure else [0.1, 0.2, 0.7])
        weight = float(gate.weight(np.array([lookup.max()]), np.array([model.max()]))[0])
        mixed = weight * lookup + (1 - weight) * model
        gate.observe(lookup, model, np.arange(3) == truth)
        if turn > 500:
            for name, said in (("mixed", mixed), ("lookup", lookup), ("model", model)):
                gains[name] += float(np.log(max(said[truth], 1e-3)))
    assert gains["mixed"] > max(gains["lookup"], gains["model"])


@dataclass
class FixedModel:
    """Stands in for a model drafter: always the same two tokens, and a count of its steps."""

    tokens: tuple[int, int]
    taps: tuple[int, ...] = (1, 2)
    digest: str = "fixed"
    noted: int = 0
    steps: list[int] = field(default_factory=list)
    confidence: Confidence = field(default_factory=Confidence)

    def admit(self, row: int, tokens: Sequence[int]) -> None:
        self.noted += 1

    def commit(self, row: int, tokens: Sequence[int]) -> None:
        self.noted += len(tokens)

    def release(self, row: int) -> None:
        pass

    def move(self, source: int, target: int) -> None:
        pass

    def pending(self, source: str) -> int:
        return self.noted

    def freeze(self) -> None:
        self.confidence.freeze()

    def statistics(self) -> dict[str, NDArray[np.float64]]:
        return {"confidence": self.confidence.counts}

    def recall(self, statistics: Mapping[str, NDArray[np.float64]]) -> None:
        self.confidence.counts = statistics["confidence"]

    def expand(self, forest: Forest, nodes: NDArray[np.int64]) -> Children:
        self.noted = 0
        self.steps.append(len(nodes))
        parent = np.repeat(nodes, 2)
        return Children(
            parent.astype(np.int32),
            np.tile(self.tokens, len(nodes)),
            np.tile([0.5, 0.2], len(nodes)),
        )


def hybrid(model: FixedModel) -> HybridDrafter:
    return HybridDrafter(NgramDrafter(), model)  # type: ignore[arg-type]


def test_a_token_of_both_sources_is_one_node() -> None:
    drafter = hybrid(FixedModel((2, 9)))
    drafter.admit(0, [1, 2, 3, 1])
    forest = Forest.roots(np.array([1]))
    drafter.begin("hybrid")
    found = drafter.expand(forest, forest.frontier)
    assert sorted(found.token.tolist()) == [2, 9]  # the lookup also says 2 after 1
    Children.checked(found.parent, found.token, found.conditional)


def test_a_round_of_the_lookup_alone_leaves_the_model_its_catch_up() -> None:
    model = FixedModel((2, 9))
    drafter = hybrid(model)
    drafter.admit(0, [1, 2, 3, 1])
    for _ in range(3):
        drafter.begin("ngram")
        forest = Forest.roots(np.array([1]))
        assert drafter.expand(forest, forest.frontier).token.tolist() == [2]
        drafter.commit(0, [2, 3, 1])
    assert model.steps == []
    assert drafter.pending("hybrid") == 10
    assert drafter.pending("ngram") == 3


def observe_all(drafter: HybridDrafter) -> None:
    """Lookup, model and gate each see something."""
    right = np.array([True, False])
    drafter.lookup.evidence.observe(3, 0.5, True)
    drafter.model.confidence.observe(np.array([0.5, 0.2]), right)
    drafter.gate.observe(np.array([0.5, 0.0]), np.array([0.0, 0.3]), right)


def test_both_sources_and_the_gate_freeze_and_hand_over_what_they_counted() -> None:
    learned, fresh = hybrid(FixedModel((2, 9))), hybrid(FixedModel((2, 9)))
    start = fresh.statistics()
    observe_all(learned)
    counted = learned.statistics()
    assert counted.keys() == {"evidence", "confidence", "gate"}
    assert not any(np.array_equal(counted[x], start[x]) for x in counted)
    fresh.recall(counted)
    fresh.freeze()
    observe_all(fresh)
    for name, counts in fresh.statistics().items():
        np.testing.assert_array_equal(counts, counted[name])


@dataclass(frozen=True)
class SourceCosts(TableCosts):
    """Drafting costs by source; the lookup's are nothing."""

    step_seconds: float = 0.0

    def source(self, drafter: str) -> SourceCosts:
        seconds = self.step_seconds if drafter == "hybrid" else 0.0
        return SourceCosts(self.verify_table, (seconds,), seconds)


def _played(step_seconds: float, lookup_chance: float, model_chance: float) -> list[str]:
    """Sources that `smart` chose over 300 rounds in which tokens come with these chances."""
    rng = np.random.default_rng(0)
    policy, chosen = Smart(), []
    costs = SourceCosts(line(1.0, 0.01), step_seconds=step_seconds)
    for _ in range(300):
        forest = Forest.roots(np.array([0]))
        offers = [Offer(x, costs.source(x), 1) for x in ("ngram", "hybrid")]
        state = Round(forest, np.array([50]), np.array([20]), costs, 1.01, 0.0)
        offer = policy.choose(state, offers, lambda: lookup_chance)
        state = Round(
            forest, np.array([50]), np.array([20]), offer.costs, 1.01, 0.0, 1, offer.source
        )
        nodes = policy.grow(state)
        chosen.append(offer.source if nodes.size else "none")
        chance = lookup_chance if offer.source == "ngram" else max(lookup_chance, model_chance)
        accepted = nodes.size > 0 and rng.random() < chance
        seconds = 1.01 + (0.01 + offer.costs.catchup_seconds if nodes.size else 0.0)
        if nodes.size:
            grown = Children(np.zeros(1, np.int32), np.ones(1, np.int64), np.array([chance]))
            forest = forest.extend(nodes, grown)
        state = Round(
            forest, np.array([50]), np.array([20]), offer.costs, 1.01, 0.0, 1, offer.source
        )
        cut = policy.cut(state)
        on_path = np.zeros(forest.size, np.bool_)
        on_path[1:] = accepted
        policy.observe(
            Outcome(np.array([1 + accepted]), seconds, nodes.size > 0, forest, cut, on_path)
        )
    return chosen[100:]


def test_smart_drafts_with_the_lookup_alone_where_the_model_is_too_dear() -> None:
    chosen = _played(step_seconds=0.5, lookup_chance=0.5, model_chance=0.6)
    assert chosen.count("ngram") > 0.85 * len(chosen)


def test_smart_drafts_with_both_where_the_model_is_worth_its_price() -> None:
    chosen = _played(step_seconds=0.05, lookup_chance=0.1, model_chance=0.7)
    assert chosen.count("hybrid") > 0.85 * len(chosen)


def test_smart_drafts_with_neither_where_nothing_pays() -> None:
    chosen = _played(step_seconds=0.5, lookup_chance=0.004, model_chance=0.02)
    assert chosen.count("hybrid") < 0.1 * len(chosen)


def test_drafters_have_one_source_unless_they_say_otherwise() -> None:
    drafter: Drafter = NgramDrafter()
    assert drafter.sources == ("ngram",)
    assert drafter.part("ngram") is drafter
    both = hybrid(FixedModel((1, 2)))
    assert both.sources == ("ngram", "hybrid")
    assert both.part("ngram").digest == NgramDrafter().digest
    assert both.part("hybrid") is both

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from smartprof.policies.allocation import Ranked, allocate, best_width, no_step_can_pay
from smartprof.policies.base import Cut, Round
from smartprof.policies.smart import Smart, SmartOptions
from smartprof.trees.forest import Children, Forest
from tests.costs import TableCosts, TableEnvelope
from tests.forests import closed_selections, random_forest

CASES = 500
MOST_NODES = 12
SHAPES = ("stairs", "dips", "convex", "concave")


def random_table(rng: np.random.Generator, shape: str, length: int) -> list[float]:
    """Seconds for 1 ... length tokens."""
    n = np.arange(1, length + 1)
    fixed, each = rng.uniform(0.5, 2.0), rng.uniform(0.02, 0.4)
    if shape == "stairs":
        table = fixed + each * rng.integers(2, 6) * np.ceil(n / rng.integers(2, 6))
    elif shape == "dips":
        table = fixed + each * n * rng.uniform(0.5, 1.5, length)
    elif shape == "convex":
        table = fixed + each * n ** rng.uniform(1.0, 2.0)
    else:
        table = fixed + each * 4 * n ** rng.uniform(0.2, 1.0)
    return [float(x) for x in table]


def random_round(seed: int) -> tuple[Round, float]:
    """A drafted round, and the theta at which a fresh `smart` will price it."""
    rng = np.random.default_rng(seed)
    batch = int(rng.integers(1, 4))
    forest = random_forest(rng, batch, int(rng.integers(0, MOST_NODES + 1)))
    table = random_table(rng, SHAPES[seed % len(SHAPES)], batch + MOST_NODES + 4)
    theta = float(rng.uniform(0.05, 1.0))
    room = rng.integers(1, 6, batch)
    lens = rng.integers(1, 500, batch)
    return Round(forest, lens, room, TableCosts(table), batch / theta, 0.0), theta


def test_what_growing_found_is_cut_only_where_it_was_found() -> None:
    """The nodes are those of a policy that never grew, whatever forest is asked for."""
    for seed in range(0, CASES, 10):
        round, _ = random_round(seed)
        other, _ = random_round(seed + 1)
        other = replace(
            round, forest=other.forest, context_lens=other.context_lens, room=other.room
        )
        policy = Smart()
        policy.grow(round)
        for asked in (round, other, round):
            expected = Smart().cut(asked)
            assert policy.cut(asked).nodes.tolist() == expected.nodes.tolist()
            assert policy.cut(asked).pad_to == expected.pad_to


def best_value(round: Round, theta: float) -> float:
    """Smart.md's objective over every prefix-closed selection and every pad target, enumerated."""
    forest, batch = round.forest, round.batch
    inner = slice(batch, forest.size)
    usable = forest.depth[inner] <= round.room[forest.request[inner]] - 1
    selections = closed_selections(forest, usable)
    gained = selections @ forest.path_prob[inner]
    table = np.array(round.costs.verify_table)  # type: ignore[attr-defined]
    sizes = batch + selections.sum(axis=1)
    return max(
        float(gained[sizes <= pad].max() - theta * table[pad - 1])
        for pad in range(batch, len(table) + 1)
    )


def value_of(round: Round, cut: Cut, theta: float) -> float:
    """The objective at a cut, after checking that the cut is one."""
    forest, batch = round.forest, round.batch
    chosen = forest.mask(cut.nodes)
    inner = np.arange(batch, forest.size)[chosen[batch:]]
    assert len(set(cut.nodes.tolist())) == len(cut.nodes) == len(inner)
    assert chosen[forest.parent[inner]].all()
    assert (forest.depth[inner] < round.room[forest.request[inner]]).all()
    assert cut.pad_to >= batch + len(cut.nodes)
    table = round.costs.verify_table  # type: ignore[attr-defined]
    return float(forest.path_prob[cut.nodes].sum() - theta * table[cut.pad_to - 1])


def first_drop_cut(round: Round, theta: float) -> Cut:
    """The wrong rule: grow the selection best first, stop as soon as the objective falls."""
    forest, batch = round.forest, round.batch
    inner = np.arange(batch, forest.size)
    usable = inner[forest.depth[inner] < round.room[forest.request[inner]]]
    ranked = usable[np.argsort(-forest.path_prob[usable], kind="stable")]
    envelope = round.costs.verify_envelope(batch, batch + len(ranked), 0.0)
    count = 0
    for node in ranked:
        step = envelope.seconds[count + 1] - envelope.seconds[count]
        if forest.path_prob[node] < theta * step:
            break
        count += 1
    return Cut(ranked[:count], int(envelope.pad_to[count]))


def unpadded_cut(round: Round, theta: float) -> Cut:
    """Another wrong rule: price every size at its own cost, never padding up to a cheaper one."""
    table = np.array(round.costs.verify_table[round.batch - 1 :])  # type: ignore[attr-defined]
    forest, batch = round.forest, round.batch
    inner = np.arange(batch, forest.size)
    usable = inner[forest.depth[inner] < round.room[forest.request[inner]]]
    ranked = usable[np.argsort(-forest.path_prob[usable], kind="stable")]
    sizes = np.arange(batch, batch + len(table))
    found = allocate(Ranked(ranked, forest.path_prob[ranked]), table, sizes, theta)
    return Cut(found.nodes, found.pad_to)


def test_the_cut_attains_the_best_of_all_prefix_closed_selections_and_pad_targets() -> None:
    sizes = []
    for seed in range(CASES):
        round, theta = random_round(seed)
        cut = Smart().cut(round)
        assert value_of(round, cut, theta) == pytest.approx(best_value(round, theta), abs=1e-9)
        sizes.append(len(cut.nodes))
    assert min(sizes) == 0 and max(sizes) >= 8 and len(set(sizes)) >= 8


@pytest.mark.parametrize(("wrong_rule", "least"), [(first_drop_cut, 15), (unpadded_cut, 15)])
def test_the_same_comparison_rejects_rules_that_are_wrong(
    wrong_rule: Callable[[Round, float], Cut], least: int
) -> None:
    losses = []
    for seed in range(CASES):
        round, theta = random_round(seed)
        losses.append(best_value(round, theta) - value_of(round, wrong_rule(round, theta), theta))
    assert min(losses) > -1e-9
    assert sum(x > 1e-6 for x in losses) >= least


def test_of_equally_good_sizes_the_smallest_is_taken() -> None:
    ranked = Ranked(np.array([1, 2]), np.array([0.5, 0.5]))
    found = allocate(ranked, np.array([1.0, 1.5, 2.0]), np.array([1, 2, 3]), 1.0)
    assert (len(found.nodes), found.pad_to, found.value) == (0, 1, -1.0)


def test_a_pad_target_beyond_the_chosen_nodes_is_really_used() -> None:
    forest = Forest.roots(np.array([0])).extend(np.array([0]), Children.checked([0], [1], [0.9]))
    costs = TableCosts([1.0, 1.6, 1.6, 1.2])
    cut = Smart().cut(Round(forest, np.array([9]), np.array([9]), costs, 1.0, 0.0))
    assert cut.nodes.tolist() == [1] and cut.pad_to == 4


def test_ten_nodes_of_three_tenths_pay_together_though_none_pays_alone() -> None:
    frontier = np.full(10, 0.3)
    steps = 1 + 0.01 * np.arange(1, 11)
    assert frontier[0] - steps[0] == pytest.approx(-0.71)
    assert frontier.sum() - steps[9] == pytest.approx(1.9)
    assert not no_step_can_pay(frontier, steps, 1.0)
    assert no_step_can_pay(frontier[:3], steps, 1.0)


def test_a_wide_step_that_is_cheaper_than_a_narrow_one_is_not_overlooked() -> None:
    frontier = np.array([0.5])  # its children may number three, and one step then takes them all
    assert no_step_can_pay(frontier, np.array([1.0, 1.0]), 1.0)
    assert not no_step_can_pay(frontier, np.array([1.0, 1.0, 0.4]), 1.0)


def random_children(rng: np.random.Generator) -> np.ndarray:
    count = int(rng.integers(1, 3))
    return rng.dirichlet([1.0] * count + [0.2])[:count]


def best_after(probs: list[float], seconds: np.ndarray, theta: float) -> float:
    ranked = Ranked(np.arange(len(probs)), np.sort(np.array(probs))[::-1])
    return allocate(ranked, seconds, np.arange(len(seconds)), theta).value


def best_plan(
    frontier: list[tuple[float, int]],
    closed: list[float],
    steps_left: int,
    seconds: np.ndarray,
    steps: np.ndarray,
    theta: float,
    children_of: dict[int, np.ndarray],
) -> float:
    """Best value of stopping now or taking any step, then the best plan after it, enumerated.

    frontier: (path probability, seed of its hidden children).
    """
    best = best_after([p for p, _ in frontier] + closed, seconds, theta)
    if steps_left == 0:
        return best
    for width in range(1, len(frontier) + 1):
        for chosen in itertools.combinations(range(len(frontier)), width):
            grown = [x for i, x in enumerate(frontier) if i not in chosen]
            for i in chosen:
                prob, key = frontier[i]
                hidden = children_of.setdefault(key, random_children(np.random.default_rng(key)))
                grown += [(prob * x, 31 * key + j + 1) for j, x in enumerate(hidden)]
            after = closed + [frontier[i][0] for i in chosen]
            value = best_plan(grown, after, steps_left - 1, seconds, steps, theta, children_of)
            best = max(best, value - theta * float(steps[width - 1]))
    return best


def test_the_proven_stop_never_fires_where_any_deeper_draft_would_have_paid() -> None:
    fired, width_one_wrong = 0, 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        probs = np.sort(rng.uniform(0.02, 0.9, int(rng.integers(1, 4))))[::-1]
        seconds = np.maximum.accumulate(rng.uniform(0.0, 0.3) * rng.random(30).cumsum() * 0.2)
        steps = rng.uniform(0.05, 1.0) * (1 + rng.uniform(0, 0.3) * np.arange(10))
        frontier = [(float(p), 1000 * seed + i) for i, p in enumerate(probs)]
        stopping = best_after(list(probs), seconds, 1.0)
        gain = best_plan(frontier, [], 2, seconds, steps, 1.0, {}) - stopping
        if no_step_can_pay(probs, steps, 1.0):
            fired += 1
            assert gain <= 1e-9
        if probs[0] <= steps[0] and gain > 1e-9:
            width_one_wrong += 1
    assert 30 <= fired <= 120
    assert width_one_wrong >= 3  # looking at the narrowest step alone would have stopped wrongly


def test_the_estimate_expands_nothing_where_stopping_is_proven() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        frontier = np.sort(rng.random(int(rng.integers(1, 9))))[::-1]
        steps = rng.uniform(0.1, 2.0) * (1 + rng.uniform(0, 0.5) * np.arange(8))
        displaced = np.sort(rng.random(3))
        verify = 1.0 + rng.random(12).cumsum() * 0.1
        if no_step_can_pay(frontier, steps, 1.0):
            assert best_width(frontier, 1.0, displaced, verify, steps, 1.0) == 0


def test_the_estimate_takes_the_width_at_which_children_outweigh_their_price() -> None:
    flat, free = np.ones(20), np.zeros(20)
    none = np.zeros(0)
    frontier = np.array([0.9, 0.6, 0.1])
    dear_rows = np.array([0.1, 0.2, 0.5])
    assert best_width(frontier, 1.0, none, flat, dear_rows, 1.0) == 2
    assert best_width(frontier, 1.0, none, flat, free, 1.0) == 3
    # enlarging the pass costs 0.7 a token, unless two poor nodes make way
    steep = 1 + 0.7 * np.arange(20)
    assert best_width(frontier, 1.0, none, steep, free, 1.0) == 1
    assert best_width(frontier, 1.0, np.array([0.05, 0.06]), steep, free, 1.0) == 2
    # a low continuation ratio makes the same step lose
    assert best_width(frontier, 0.5, none, steep, free, 1.0) == 0


@dataclass(frozen=True)
class ContextCosts(TableCosts):
    """Every token of a pass also pays for the context that it looks at."""

    each: float = 0.0

    def verify(self, batch: int, tokens: Any, context: float) -> Any:
        return super().verify(batch, tokens, context) + self.each * np.asarray(tokens) * context

    def verify_envelope(self, batch: int, max_tokens: int, context: float) -> TableEnvelope:
        plain = super().verify_envelope(batch, max_tokens, context)
        return TableEnvelope(
            plain.tokens, plain.seconds + self.each * plain.tokens * context, plain.pad_to
        )


def test_with_unequal_contexts_a_node_pays_for_that_of_its_own_request() -> None:
    differs = 0
    for seed in range(CASES):
        drawn, theta = random_round(seed)
        rng = np.random.default_rng(seed)
        table = np.maximum.accumulate(drawn.costs.verify_table)  # type: ignore[attr-defined]
        costs = ContextCosts(table.tolist(), each=float(rng.uniform(0, 2e-3)))
        round = replace(drawn, costs=costs)
        forest, batch = round.forest, round.batch
        inner = slice(batch, forest.size)
        request = forest.request[inner]
        usable = forest.depth[inner] <= round.room[request] - 1
        selections = closed_selections(forest, usable)
        context = costs.each * (batch * round.context + selections @ round.context_lens[request])
        seconds = table[batch + selections.sum(axis=1) - 1] + context
        values = selections @ forest.path_prob[inner] - theta * seconds
        cut = Smart().cut(round)
        own = forest.mask(cut.nodes)[inner]
        found = values[(selections == own).all(axis=1)]
        assert found == pytest.approx(values.max(), abs=1e-9)
        equal = Smart().cut(replace(round, context_lens=np.full(batch, round.context)))
        differs += set(equal.nodes.tolist()) != set(cut.nodes.tolist())
    assert differs >= 20


@pytest.mark.parametrize("floor", [1, 3])
def test_a_floor_is_kept_and_the_rest_is_still_the_best(floor: int) -> None:
    raised = 0
    for seed in range(CASES):
        round, theta = random_round(seed)
        forest, batch = round.forest, round.batch
        cut = Smart(SmartOptions(floor=floor)).cut(round)
        value = value_of(round, cut, theta)
        inner = slice(batch, forest.size)
        request = forest.request[inner]
        usable = forest.depth[inner] <= round.room[request] - 1
        owed = np.minimum(floor, np.bincount(request[usable], minlength=batch))
        assert (np.bincount(forest.request[cut.nodes], minlength=batch) >= owed).all()
        selections = closed_selections(forest, usable)
        counts = np.stack([selections[:, request == x].sum(axis=1) for x in range(batch)], axis=1)
        kept = selections[(counts >= owed).all(axis=1)]
        seconds = round.costs.verify_envelope(batch, batch + forest.size, 0.0).seconds
        worth = kept @ forest.path_prob[inner] - theta * seconds[kept.sum(axis=1)]
        assert value == pytest.approx(float(worth.max()), abs=1e-9)
        raised += value < best_value(round, theta) - 1e-9
    assert raised >= 20

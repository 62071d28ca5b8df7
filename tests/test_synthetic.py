"""Synthetic acceptance is what it says it is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from smartprof.errors import InputError
from smartprof.simulate.synthetic import LEVELS, NONE_RIGHT, RANKS, Law, SyntheticWorld
from smartprof.simulate.world import END, SimulatedDrafter, SimulatedTarget
from smartprof.trees.forest import Children, Forest


def drafting(world: SyntheticWorld, rows: int, position: int = 0) -> SimulatedDrafter:
    """A drafter with the first requests in its rows, so many tokens into their outputs."""
    target = SimulatedTarget(world)
    drafter = world.drafter(target)
    for row in range(rows):
        target.admit(row, world.requests[row])
        drafter.admit(row, ())
        drafter.commit(row, [0] * position)
    return drafter


def grown(drafter: SimulatedDrafter, layers: int) -> tuple[Forest, NDArray[np.float64]]:
    """Everything proposed, layer by layer, and the stated conditionals of the nodes."""
    rows = len(drafter.seats)
    forest, stated = Forest.roots(np.zeros(rows, np.int64)), [np.ones(rows)]
    for _ in range(layers):
        nodes = forest.frontier
        children = drafter.expand(forest, nodes)
        Children.checked(children.parent, children.token, children.conditional)
        stated.append(children.conditional)
        forest = forest.extend(nodes, children)
    return forest, np.concatenate(stated)


def z_score(right: NDArray[np.bool_], chance: NDArray[np.float64]) -> float:
    """Of independent events against their chances."""
    return float((right - chance).sum() / np.sqrt((chance * (1 - chance)).sum()))


def reached(
    world: SyntheticWorld, layers: int = 3
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Of nodes whose parent is on the target's path: are they too, and what was stated."""
    rows = len(world.requests)
    right, stated = [], []
    for position in range(0, 60, layers):
        drafter = drafting(world, rows, position)
        forest, said = grown(drafter, layers)
        on_path = drafter.on_path(forest)
        tested = np.arange(rows, forest.size)
        tested = tested[on_path[forest.parent[tested]]]
        right.append(on_path[tested])
        stated.append(said[tested])
    return np.concatenate(right), np.concatenate(stated)


@pytest.mark.parametrize("rate", [0.3, 0.6, 0.85])
def test_stated_chances_are_those_of_being_right(rate: float) -> None:
    """Over all nodes, and in each tenth of what is stated. Negative control: the next test."""
    right, stated = reached(SyntheticWorld(Law(rate), "d", 1, count=200, new_tokens=64))
    assert len(right) > 20_000
    assert abs(z_score(right, stated)) < 4
    for edge in np.arange(0, 1, 0.1):
        within = (stated >= edge) & (stated < edge + 0.1)
        assert within.sum() < 50 or abs(z_score(right[within], stated[within])) < 4


def test_an_over_confident_drafter_states_more_than_comes_true() -> None:
    right, stated = reached(SyntheticWorld(Law(0.6, 0.5), "d", 1, count=200, new_tokens=64))
    assert z_score(right, stated) < -20


def test_confidence_changes_what_is_stated_and_nothing_else() -> None:
    honest, proud = (SyntheticWorld(Law(0.6, x), "d", 7, count=50) for x in (1.0, 0.5))
    forests = [grown(drafting(x, 50), 3) for x in (honest, proud)]
    (a, said), (b, boasted) = forests
    for field in ("request", "parent", "token", "depth"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    number, place = np.meshgrid(np.arange(50), np.arange(128))
    np.testing.assert_array_equal(honest.says(number, place), proud.says(number, place))
    sums = np.bincount(b.parent[50:], boasted[50:])
    np.testing.assert_allclose(np.bincount(a.parent[50:], said[50:] ** 0.5).clip(max=1), sums)
    ranked = [np.lexsort((-x[50:], a.parent[50:])) for x in (said, boasted)]
    np.testing.assert_array_equal(*ranked)  # the order of siblings stays


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_law_is_as_written(rate: float) -> None:
    law = Law(rate)
    best = law.chances[:, 0]
    assert best.mean() == pytest.approx(rate, abs=0.002)
    assert best.var() == pytest.approx(rate * (1 - rate) / 5, rel=0.02)  # Beta, concentration 4
    assert (np.diff(law.chances, axis=1) <= 0).all()
    assert law.chances.shape == law.stated.shape == (LEVELS, RANKS)
    assert (law.chances.sum(axis=1) <= best + (1 - best) / 2 + 1e-12).all()
    np.testing.assert_array_equal(law.stated, law.chances)


def test_a_place_proposes_the_same_from_whichever_round_it_is_drafted() -> None:
    world = SyntheticWorld(Law(0.8), "d", 3, count=1, new_tokens=32)
    for position in range(8):
        here, _ = grown(drafting(world, 1, position), 3)
        drafter = drafting(world, 1, position)
        path = np.flatnonzero(drafter.on_path(here))
        for node in path.tolist():
            depth = int(here.depth[node])
            if depth == 3:
                continue
            there, _ = grown(drafting(world, 1, position + depth), 1)
            below = here.parent == node
            np.testing.assert_array_equal(here.token[below], there.token[1:])
            ratio = here.path_prob[below] / here.path_prob[node]
            np.testing.assert_allclose(ratio, there.path_prob[1:])


def test_seeds_requests_and_places_differ_and_repeat() -> None:
    number, place = np.meshgrid(np.arange(4), np.arange(128), indexing="ij")
    said = [SyntheticWorld(Law(0.5), "d", x, count=4).says(number, place) for x in (0, 0, 1)]
    np.testing.assert_array_equal(said[0], said[1])
    assert (said[0] != said[2]).mean() > 0.3
    assert (said[0][0] != said[0][1]).mean() > 0.3


def test_runs_of_right_proposals_are_counted_and_end_with_the_output() -> None:
    world = SyntheticWorld(Law(0.7), "d", 0, count=3, new_tokens=20)
    for number in range(3):
        for position in range(20):
            run = 0
            while 0 <= world.says(np.array([number]), np.array([position + run]))[0] < NONE_RIGHT:
                run += 1
            assert world.right_run[number, position] == run
    assert world.says(np.array([0, 0]), np.array([20, -1])).tolist() == [END, END]


NO_LAWS = (
    *("synthetic", "synthetic:", "synthetic:x", "real:0.5", "synthetic:0.5,0.5,0.5"),
    *("synthetic:0", "synthetic:1", "synthetic:nan", "synthetic:0.5,0", "synthetic:0.5,9"),
)


@pytest.mark.parametrize("text", NO_LAWS)
def test_a_law_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected --acceptance synthetic:RATE"):
        Law.parse(text)
    assert str(Law.parse("synthetic:0.7,0.6")) == "synthetic:0.7,0.6"

from __future__ import annotations

import numpy as np
import pytest

from smartprof.trees.positional import PositionalAcceptance
from smartprof.trees.shape import TreeShape


def random_layers(rng: np.random.Generator) -> list[list[int]]:
    layers, width = [], 1
    for _ in range(int(rng.integers(0, 5))):
        layers.append(rng.integers(0, 4, width).tolist())
        width = sum(layers[-1])
    return layers


@pytest.mark.parametrize("seed", range(50))
def test_a_shape_survives_its_text_and_numbers_its_places_layer_by_layer(seed: int) -> None:
    layers = random_layers(np.random.default_rng(seed))
    shape = TreeShape.of(layers)
    assert TreeShape.parse(str(shape)) == shape
    # walk the layers by hand: every place's children are the next ones not yet taken
    parents, place, free = {}, 0, 1
    for layer in layers:
        for count in layer:
            parents |= dict.fromkeys(range(free, free + count), place)
            place, free = place + 1, free + count
    assert shape.size == len(parents)
    for child, parent in parents.items():
        first = shape.first_child[parent]
        assert first <= child < first + shape.children[parent]
    assert shape.children.sum() == shape.size == len(shape.children) - 1
    depths = {0: 0}
    for child, parent in parents.items():
        depths[child] = depths[parent] + 1
    assert shape.depth == max(depths.values())
    for depth, count in enumerate(shape.expanded):
        assert count == len({y for x, y in parents.items() if depths[y] == depth})


@pytest.mark.parametrize(
    ("text", "other"), [("3/2+1", "3/2+1+0"), ("2", "2/0+0"), ("2/0+1", "2/0+1/0")]
)
def test_places_without_children_may_be_left_out_at_the_end(text: str, other: str) -> None:
    assert TreeShape.parse(text) == TreeShape.parse(other)
    assert str(TreeShape.parse(other)) == text


def test_the_root_alone_is_a_tree() -> None:
    root = TreeShape.parse("0")
    assert (root.size, root.depth, root.children.tolist()) == (0, 0, [0])


@pytest.mark.parametrize("text", ["", "/", "3/", "a", "-1", "1.5", "3/2,1", "1/1/2+1", "0/1", "²"])
def test_what_is_no_tree_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="is no tree") as caught:
        TreeShape.parse(text)
    assert "\n" not in str(caught.value)


def test_a_tree_of_absurd_size_is_refused_before_it_is_built() -> None:
    with pytest.raises(ValueError, match="expected 512 nodes, got 1000000000001"):
        TreeShape.parse("1000000000000/1")


def test_a_negative_number_of_children_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0, got -1"):
        TreeShape.of([[2], [1, -1]])


def test_acceptance_survives_its_text() -> None:
    acceptance = PositionalAcceptance.parse("0.7+0.1+0.05/0.6")
    assert acceptance.rates == ((0.7, 0.1, 0.05), (0.6,))
    assert PositionalAcceptance.parse(str(acceptance)) == acceptance
    assert acceptance.table.tolist() == [[0.7, 0.1, 0.05], [0.6, 0.0, 0.0]]


@pytest.mark.parametrize("rates", [(), ((),), ((0.5, -0.1),), ((1.1,),), ((0.6, 0.6),)])
def test_rates_that_are_no_probabilities_of_exclusive_events_are_refused(
    rates: tuple[tuple[float, ...], ...],
) -> None:
    with pytest.raises(ValueError, match="expected"):
        PositionalAcceptance(rates)

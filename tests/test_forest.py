from __future__ import annotations

import numpy as np
import pytest

from smartprof.trees.forest import NO_CHILDREN, Children, Forest
from tests.forests import ancestors, random_forest


def test_roots_are_the_first_nodes_with_certainty_and_no_parent() -> None:
    forest = Forest.roots(np.array([7, 9]))
    assert forest.size == forest.num_requests == 2
    assert forest.token.tolist() == [7, 9]
    assert forest.request.tolist() == [0, 1]
    assert forest.parent.tolist() == [-1, -1]
    assert forest.depth.tolist() == [0, 0]
    assert forest.path_prob.tolist() == [1.0, 1.0]
    assert forest.frontier.tolist() == [0, 1]


def test_extending_appends_children_and_leaves_the_old_forest_as_it_was() -> None:
    roots = Forest.roots(np.array([7, 9]))
    forest = roots.extend(np.array([1]), Children.checked([1, 1], [3, 4], [0.5, 0.25]))
    grown = forest.extend(np.array([2]), Children.checked([2], [5], [0.5]))
    assert roots.size == 2 and not roots.expanded.any()
    assert grown.request.tolist() == [0, 1, 1, 1, 1]
    assert grown.parent.tolist() == [-1, -1, 1, 1, 2]
    assert grown.token.tolist() == [7, 9, 3, 4, 5]
    assert grown.depth.tolist() == [0, 0, 1, 1, 2]
    assert grown.path_prob.tolist() == [1, 1, 0.5, 0.25, 0.25]
    assert grown.frontier.tolist() == [0, 3, 4]


def test_expanding_without_children_only_closes_the_nodes() -> None:
    forest = Forest.roots(np.array([7, 9])).extend(np.array([0]), NO_CHILDREN)
    assert forest.size == 2
    assert forest.frontier.tolist() == [1]


def test_random_forests_keep_parents_first_and_multiply_probabilities_down_each_path() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        forest = random_forest(rng, int(rng.integers(1, 4)), 20)
        inner = np.arange(forest.num_requests, forest.size)
        assert (forest.parent[inner] < inner).all()
        assert (forest.path_prob[inner] <= forest.path_prob[forest.parent[inner]]).all()
        assert (forest.request[inner] == forest.request[forest.parent[inner]]).all()
        for node in range(forest.size):
            assert forest.depth[node] == len(ancestors(forest, node))


@pytest.mark.parametrize(
    ("parent", "token", "conditional", "fault"),
    [
        ([0, 0], [1, 1], [0.2, 0.2], "distinct siblings"),
        ([0, 0], [1, 2], [0.6, 0.6], "at most 1"),
        ([0], [1], [0.0], r"in \(0, 1\]"),
        ([0], [1], [1.5], r"in \(0, 1\]"),
        ([0], [1], [float("nan")], r"in \(0, 1\]"),
        ([-1], [1], [0.5], "forest nodes"),
        ([0, 0], [1], [0.5], "one parent, token and probability"),
    ],
)
def test_children_that_break_a_promise_are_refused(
    parent: list[int], token: list[int], conditional: list[float], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        Children.checked(parent, token, conditional)


def test_cousins_may_share_a_token_and_thirds_may_sum_to_one() -> None:
    Children.checked([0, 1], [5, 5], [1.0, 1.0])
    Children.checked([0] * 10, range(10), [0.1] * 10)


def test_the_mask_holds_the_roots_and_the_chosen_nodes() -> None:
    forest = random_forest(np.random.default_rng(3), 2, 8)
    assert forest.mask(np.array([4, 2])).nonzero()[0].tolist() == [0, 1, 2, 4]

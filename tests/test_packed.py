from __future__ import annotations

import numpy as np
import pytest

from smartprof.trees.forest import Children, Forest
from smartprof.trees.packed import PackedTrees, accept, pack
from tests.forests import ancestors, random_choice, random_forest


def random_trees(seed: int) -> tuple[Forest, PackedTrees]:
    rng = np.random.default_rng(seed)
    forest = random_forest(rng, int(rng.integers(1, 5)), int(rng.integers(0, 25)), vocab=3)
    return forest, pack(forest, random_choice(rng, forest, int(rng.integers(0, 8))))


def naive_order(forest: Forest, chosen: set[int], node: int) -> list[int]:
    """Depth first, likelier children first, the earlier of equals."""
    children = [x for x in sorted(chosen) if forest.parent[x] == node]
    children.sort(key=lambda x: -forest.path_prob[x])
    return [node] + [y for x in children for y in naive_order(forest, chosen, x)]


def naive_path(packed: PackedTrees, target: np.ndarray, place: int) -> list[int]:
    for child in range(len(packed.node)):
        if packed.parent[child] == place and packed.token[child] == target[place]:
            return [child, *naive_path(packed, target, child)]
    return []


@pytest.mark.parametrize("seed", range(100))
def test_packing_is_depth_first_with_the_likelier_sibling_first(seed: int) -> None:
    forest, packed = random_trees(seed)
    chosen = set(packed.node.tolist())
    expected = [y for x in range(forest.num_requests) for y in naive_order(forest, chosen, x)]
    assert packed.node.tolist() == expected
    assert (packed.token == forest.token[packed.node]).all()
    assert (packed.depth == forest.depth[packed.node]).all()
    assert (packed.request == forest.request[packed.node]).all()
    inner = packed.parent >= 0
    assert (packed.node[packed.parent[inner]] == forest.parent[packed.node[inner]]).all()
    assert (packed.parent < np.arange(len(packed.node))).all()
    assert packed.counts.sum() == len(packed.node)
    assert (packed.parent[packed.offset] == -1).all() and (packed.slot[packed.offset] == 0).all()


@pytest.mark.parametrize("seed", range(100))
def test_the_ancestor_mask_is_what_walking_up_gives(seed: int) -> None:
    forest, packed = random_trees(seed)
    extra = seed % 3
    width = int(packed.counts.max()) + extra
    expected = np.zeros((len(packed.counts), width, width), bool)
    expected[:, :, 0] = True  # queries beyond a request's count see its root
    slot_of = {int(n): int(s) for n, s in zip(packed.node, packed.slot, strict=True)}
    for node, request, slot in zip(packed.node, packed.request, packed.slot, strict=True):
        for above in ancestors(forest, int(node)):
            expected[request, slot, slot_of[above]] = True
    assert (packed.ancestor_mask(width) == expected).all()


@pytest.mark.parametrize("seed", range(200))
def test_acceptance_follows_the_targets_tokens_as_recursion_does(seed: int) -> None:
    _, packed = random_trees(seed)
    target = np.random.default_rng(seed).integers(0, 3, len(packed.node))
    accepted = accept(packed, target)
    for request, path in enumerate(accepted.paths):
        root = int(packed.offset[request])
        expected = naive_path(packed, target, root)
        assert path.tolist() == expected
        assert accepted.bonus[request] == target[[root, *expected][-1]]
    assert accepted.lengths.tolist() == [len(x) for x in accepted.paths]


def test_long_paths_are_accepted_in_the_random_cases() -> None:
    lengths = []
    for seed in range(200):
        _, packed = random_trees(seed)
        target = np.random.default_rng(seed).integers(0, 3, len(packed.node))
        lengths += accept(packed, target).lengths.tolist()
    assert max(lengths) >= 3 and min(lengths) == 0


def test_the_most_probable_path_needs_no_moving_when_it_is_accepted() -> None:
    forest = Forest.roots(np.array([0]))
    forest = forest.extend(np.array([0]), Children.checked([0, 0], [1, 2], [0.3, 0.6]))
    forest = forest.extend(np.array([1, 2]), Children.checked([1, 2], [3, 4], [0.9, 0.9]))
    packed = pack(forest, np.arange(1, 5))
    assert packed.token.tolist() == [0, 2, 4, 1, 3]
    assert accept(packed, np.array([2, 4, 9, 0, 0])).paths[0].tolist() == [1, 2]


def test_roots_alone_pack_to_themselves_and_yield_the_bonus() -> None:
    forest = Forest.roots(np.array([5, 6, 7]))
    packed = pack(forest, np.array([], np.int64))
    assert packed.token.tolist() == [5, 6, 7]
    accepted = accept(packed, np.array([1, 2, 3]))
    assert [x.tolist() for x in accepted.paths] == [[], [], []]
    assert accepted.bonus.tolist() == [1, 2, 3]


def test_a_node_without_its_parent_is_refused() -> None:
    forest = Forest.roots(np.array([0]))
    forest = forest.extend(np.array([0]), Children.checked([0], [1], [0.5]))
    forest = forest.extend(np.array([1]), Children.checked([1], [1], [0.5]))
    with pytest.raises(ValueError, match="prefix-closed choice, got node 2"):
        pack(forest, np.array([2]))

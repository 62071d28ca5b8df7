from __future__ import annotations

import numpy as np
import pytest

from smartprof.policies.base import Round
from smartprof.policies.static import Static, StaticOptions
from smartprof.policies.table import make_policy
from smartprof.trees.forest import Forest
from smartprof.trees.positional import PositionalAcceptance
from smartprof.trees.shape import TreeShape
from tests.costs import TableCosts, line
from tests.drafting import always, draft, random_propose

CHEAP = TableCosts(line(1.0, 0.01), line(0.001, 0.001), 0.001)


def naive_nodes(round: Round, shape: TreeShape) -> list[int]:
    """Walk tree and shape together: the r-th most probable child takes the r-th child's place."""
    forest, chosen = round.forest, []
    for request in range(round.batch):
        waiting = [(request, 0)]
        while waiting:
            node, place = waiting.pop()
            below = [x for x in range(forest.size) if forest.parent[x] == node]
            if forest.depth[node] + 1 >= round.room[request]:
                continue
            ranked = sorted(below, key=lambda x: -forest.path_prob[x])
            for rank, child in enumerate(ranked[: int(shape.children[place])]):
                chosen.append(child)
                waiting.append((child, int(shape.first_child[place]) + rank))
    return sorted(chosen)


@pytest.mark.parametrize("seed", range(100))
def test_the_verified_nodes_are_the_tree_as_far_as_children_were_proposed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = TreeShape.parse(str(rng.choice(["3/2+1", "1/1/1", "4/2+1/1+1", "2/0+3/1+0+2/1", "0"])))
    batch = int(rng.integers(1, 5))
    policy = Static(StaticOptions(tree=shape))
    seen = draft(policy, batch, rng.integers(1, 7, batch), CHEAP, random_propose(rng))
    last = seen[-1][0]
    cut = policy.cut(last)
    assert cut.nodes.tolist() == naive_nodes(last, shape)
    assert cut.pad_to == batch + len(cut.nodes)
    assert len(cut.nodes) <= batch * shape.size
    assert len(seen) - 1 <= shape.depth


def test_only_places_with_children_are_expanded_and_the_whole_tree_is_verified() -> None:
    policy = make_policy("static:tree=3/2+0+1/0+1")
    seen = draft(policy, 2, np.full(2, 50), CHEAP, always(0.4, 0.3, 0.2))
    assert [len(x) for _, x in seen] == [2 * 1, 2 * 2, 2 * 1, 0]
    assert len(policy.cut(seen[-1][0]).nodes) == 2 * 7
    assert policy.most_nodes(2) == 7


def found_shape(costs: TableCosts, batch: int, accept: str = "0.8+0.1") -> TreeShape:
    """What is drafted and verified of always enough children."""
    policy = make_policy(f"static:accept={accept}")
    last = draft(policy, batch, np.full(batch, 50), costs, always(0.6, 0.3, 0.1))[-1][0]
    forest, nodes = last.forest, policy.cut(last).nodes
    mine = [0, *nodes[forest.request[nodes] == 0].tolist()]
    depths = [[x for x in mine if forest.depth[x] == y] for y in range(int(forest.depth.max()) + 1)]
    counts = [[sum(forest.parent[y] == x for y in mine[1:]) for x in layer] for layer in depths]
    return TreeShape.of(counts)


def test_a_found_tree_is_smaller_where_tokens_are_dearer_and_none_where_they_cost_too_much() -> (
    None
):
    sizes = []
    for each in (0.001, 0.05, 0.2, 2.0):
        costs = TableCosts(line(1.0, each), (0.001,), 0.001)
        sizes.append(found_shape(costs, 1).size)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3] == 0


def test_a_found_tree_is_smaller_at_a_larger_batch() -> None:
    costs = TableCosts(line(1.0, 0.03), (0.001,), 0.001)
    sizes = [found_shape(costs, x).size for x in (1, 4, 16)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_a_found_tree_follows_the_acceptance() -> None:
    costs = TableCosts(line(1.0, 0.05), (0.001,), 0.001)
    assert max(found_shape(costs, 1, "0.9").children) == 1  # one rank, one branch
    assert found_shape(costs, 1, "0.4+0.4+0.1").children[0] >= 2
    assert found_shape(costs, 1, "0.5+0.4/0.0").depth == 1


def test_a_found_tree_ends_on_a_stair_of_the_costs() -> None:
    """Passes of up to 8 tokens cost the same, and twice as much beyond."""
    costs = TableCosts([1.0] * 8 + [2.0] * 60, (1e-4,), 1e-4)
    assert 1 + found_shape(costs, 1).size == 8
    assert 2 * (1 + found_shape(costs, 2).size) == 8


def test_a_found_tree_stays_within_the_longest_measured_pass() -> None:
    free = TableCosts([1.0], (0.0,), 0.0, most_tokens=12)
    assert 3 * (1 + found_shape(free, 3).size) == 12
    assert found_shape(free, 12).size == 0
    assert Static(StaticOptions(accept=PositionalAcceptance(((0.5,),)))).most_nodes(3) is None


def test_a_tree_is_found_once_for_each_batch_size() -> None:
    policy = make_policy("static:accept=0.8")
    cheap, dear = (TableCosts(line(1.0, x), (0.001,), 0.001) for x in (0.001, 2.0))
    first = draft(policy, 1, np.array([50]), cheap, always(0.9))
    assert len(draft(policy, 1, np.array([50]), dear, always(0.9))) == len(first) > 1
    assert len(draft(policy, 2, np.full(2, 50), dear, always(0.9))) == 1
    policy.reset()
    assert len(draft(policy, 1, np.array([50]), dear, always(0.9))) == 1


def test_a_forest_of_roots_has_no_node_to_verify() -> None:
    round = Round(Forest.roots(np.arange(2)), np.full(2, 9), np.full(2, 9), CHEAP, 1.0, 0.0)
    assert Static().cut(round).nodes.size == 0

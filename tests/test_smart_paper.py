from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from smartprof.policies.base import Round
from smartprof.policies.exponential import ExponentialCost, fit_exponential
from smartprof.policies.smart_paper import SmartPaper, SmartPaperOptions
from smartprof.policies.table import make_policy
from smartprof.trees.forest import Forest
from tests.costs import TableCosts, line
from tests.drafting import always, draft, random_propose

# An example by hand. C(n) = 100 * (exp(0.1 * n ** 0.1) - 1), a draft step of n rows 7 + n; with a
# budget of 16 the five passes have 1, 5, 9, 13, 17 tokens, so that
#
#     lambda = sum n * (7 + n) / sum n ** 2 = (7 * 45 + 565) / 565 = 1.55752
#
# and, in the units of the curve,
#
#     n     C(n)       C'(n)     C_spec = lambda * n + C    dC_spec = lambda + C'
#     1     10.51709   1.10517   12.07461                   2.66269
#     2     11.31394   0.59652   14.42898                   2.15404
#     3     11.80862   0.41598   16.48118                   1.97350
#     4     12.17264   0.32233   18.40273                   1.87985
CURVE = ExponentialCost(100.0, 0.1, 0.1)
COSTS = TableCosts([float(CURVE.seconds(x)) for x in range(1, 30)], line(7.0, 1.0))
# root -> a .5, b .4; a -> c .9, d .05; b -> e .9; c -> f .5, as path probabilities a .5, b .4,
# c .45, d .025, e .36, f .225. Forest nodes: a 1, b 2, c 3, d 4, e 5, f 6 where all are expanded.
CONDITIONALS = {(): [0.5, 0.4], (0,): [0.9, 0.05], (1,): [0.9], (0, 0): [0.5]}


def example(forest: Forest, node: int) -> list[float]:
    return CONDITIONALS.get(path(forest, node), [])


def path(forest: Forest, node: int) -> tuple[int, ...]:
    """Ranks from the root down; below the example's nodes tokens are ranks."""
    if node < forest.num_requests:
        return ()
    return (*path(forest, int(forest.parent[node])), int(forest.token[node]))


def kept(options: SmartPaperOptions) -> str:
    """Names of the example's nodes that stay."""
    names = {(0,): "a", (1,): "b", (0, 0): "c", (0, 1): "d", (1, 0): "e", (0, 0, 0): "f"}
    policy = SmartPaper(options)
    last = draft(policy, 1, np.array([50]), COSTS, example)[-1][0]
    return "".join(sorted(names[path(last.forest, x)] for x in policy.cut(last).nodes.tolist()))


EXAMPLE = SmartPaperOptions(budget=16)


def test_an_example_computed_by_hand() -> None:
    """Left: 0.8 * f / |P| * C_spec; right: L * dC_spec; a node stays where left exceeds right.

    a  T = 1, |P| = 1, L = 1               0.8 * .5   * 12.07461     = 4.82985 > 2.66269  stays
    b  T = 2, |P| = 1, L = 1.5             0.8 * .4   * 14.42898     = 4.61727 > 3.23106  stays
    c  T = 3, |P| = 2, L = (1.5 + 1.4) / 2 0.8 * .45 / 2 * 16.48118 = 2.96661 > 2.86157  stays
    e  T = 4, |P| = 2, L = 3.35 / 2        0.8 * .36 / 2 * 18.40273 = 2.64999 < 3.14875  goes
    d  less probable than e on the same tree: goes
    f  T = 4 as for e,                     0.8 * .225 / 2 * 18.40273 = 1.65625 < 3.14875  goes
    """
    assert kept(EXAMPLE) == "abc"


@pytest.mark.parametrize(
    ("reading", "names"),
    [
        # L of the first two 0 and .5; of c (.5 + .4) / 2, and so on: every length is 1 shorter
        ({"root": "left-out"}, "abcef"),
        # b adds a second path: its benefit halves, 2.30864 < 3.23106. Then c on T = 2, |P| = 1:
        # 5.19443 > 3.23106 stays, and d, f fail
        ({"paths": "after"}, "ac"),
        # C_spec of c falls by lambda to 14.92366: 2.68626 < 2.86157
        ({"drafted": "without-root"}, "ab"),
        # lambda = 1, the slope of 7 + n: e has 0.144 * 16.17264 = 2.32886 > 1.675 * 1.32233
        ({"slope": "offset"}, "abce"),
        # half the benefit: a has 3.01865 > 2.66269, b on T = 2 2.88580 < 3.23106, c 3.24652 > it
        ({"alpha": 0.5}, "ac"),
        ({"budget": 16, "depth": 1}, "ab"),
        ({"k": 1, "depth": 1}, "a"),
    ],
)
def test_each_reading_of_the_open_details_changes_the_example(
    reading: dict[str, str], names: str
) -> None:
    assert kept(replace(EXAMPLE, **reading)) == names  # type: ignore[arg-type]


def naive_cut(round: Round, options: SmartPaperOptions) -> list[int]:
    """The rule word by word: one node after the other, every quantity from the tree as it is."""
    slope, curve = naive_costs(round, options)
    trees = [naive_tree(round, options, x, slope, curve) for x in range(round.batch)]
    return sorted(y for x in trees for y in x)


def naive_costs(round: Round, options: SmartPaperOptions) -> tuple[float, ExponentialCost]:
    share = options.budget // round.batch
    sizes = np.rint(np.linspace(1, max(1 + share, 5), 5))
    steps = np.array(
        [round.costs.draft_step(round.batch, round.batch * int(x), 0.0) for x in sizes]
    )
    degree = 1 if options.slope == "offset" else 0
    basis = np.stack([sizes, np.ones(5)][: 1 + degree], axis=1)
    slope = np.linalg.lstsq(basis, steps, rcond=None)[0][0]
    passes = [round.costs.verify(round.batch, round.batch * int(x), 0.0) for x in sizes]
    return float(slope), fit_exponential(sizes, passes)


def naive_tree(
    round: Round, options: SmartPaperOptions, request: int, slope: float, curve: ExponentialCost
) -> list[int]:
    forest, tree = round.forest, [request]
    share = options.budget // round.batch
    deepest = min(options.depth, int(round.room[request]) - 1)
    for depth in range(1, deepest + 1):
        candidates = []
        for parent in [x for x in tree if forest.depth[x] == depth - 1]:
            below = [x for x in range(forest.size) if forest.parent[x] == parent]
            candidates += sorted(below, key=lambda x: -forest.path_prob[x])[: options.k]
        for node in sorted(candidates, key=lambda x: (-forest.path_prob[x], x)):
            if len(tree) - 1 < share and naive_test(forest, options, tree, node, slope, curve):
                tree.append(node)
    return tree[1:]


def naive_test(
    forest: Forest,
    options: SmartPaperOptions,
    tree: list[int],
    node: int,
    slope: float,
    curve: ExponentialCost,
) -> bool:
    def leaves(nodes: list[int]) -> list[int]:
        return [x for x in nodes if not any(forest.parent[y] == x for y in nodes)]

    def length(leaf: int) -> float:
        total = 0.0
        while leaf >= forest.num_requests:
            total += forest.path_prob[leaf]
            leaf = int(forest.parent[leaf])
        return total + (options.root == "counted")

    paths = leaves(tree)
    mean = sum(map(length, paths)) / len(paths)
    counted = len(paths if options.paths == "before" else leaves([*tree, node]))
    drafted = len(tree) - (options.drafted != "all")
    total = slope * drafted + float(curve.seconds(len(tree)))
    benefit = options.alpha * forest.path_prob[node] / counted
    return bool(benefit / (slope + float(curve.slope(len(tree)))) > mean / total)


def random_options(rng: np.random.Generator) -> SmartPaperOptions:
    return SmartPaperOptions(
        alpha=float(rng.uniform(0.5, 3.0)),
        budget=int(rng.integers(1, 40)),
        depth=int(rng.integers(1, 6)),
        k=int(rng.integers(1, 5)),
        root=str(rng.choice(["counted", "left-out"])),
        paths=str(rng.choice(["before", "after"])),
        drafted=str(rng.choice(["all", "without-root"])),
        slope=str(rng.choice(["origin", "offset"])),
    )


@pytest.mark.parametrize("seed", range(60))
def test_the_rule_over_the_whole_batch_equals_one_node_after_the_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch, options = int(rng.integers(1, 4)), random_options(rng)
    costs = TableCosts(line(1.0, rng.uniform(0, 0.02)), line(0.02, rng.uniform(0, 0.01)))
    policy = SmartPaper(options)
    seen = draft(policy, batch, rng.integers(1, 9, batch), costs, random_propose(rng))
    last = seen[-1][0]
    assert policy.cut(last).nodes.tolist() == naive_cut(last, options)
    for (before, nodes), _ in pairwise(seen):  # what was expanded were kept nodes of that time
        assert set(nodes.tolist()) <= {*range(batch), *policy.cut(before).nodes.tolist()}
    assert policy.cut(last).pad_to == batch + len(policy.cut(last).nodes)


def test_these_cases_keep_some_nodes_and_drop_some() -> None:
    kept_nodes = dropped = 0
    policy = make_policy("smart-paper:budget=30")
    costs = TableCosts(line(1.0, 0.01), line(0.02, 0.005))
    for seed in range(40):
        rng = np.random.default_rng(seed)
        last = draft(policy, 3, np.full(3, 9), costs, random_propose(rng))[-1][0]
        kept_nodes += len(policy.cut(last).nodes)
        dropped += last.forest.size - 3 - len(policy.cut(last).nodes)
    assert kept_nodes > 40 and dropped > 40


def test_the_budget_is_split_equally_and_never_exceeded() -> None:
    free = TableCosts([1.0], (1e-6,))
    for batch in (1, 2, 3, 7):
        policy = make_policy("smart-paper:alpha=100:budget=20")
        last = draft(policy, batch, np.full(batch, 50), free, always(0.5, 0.3, 0.2))[-1][0]
        per_request = np.bincount(last.forest.request[policy.cut(last).nodes], minlength=batch)
        assert per_request.tolist() == [20 // batch] * batch


def test_with_a_budget_below_one_node_per_request_it_decodes_plainly() -> None:
    policy = make_policy("smart-paper:budget=3")
    assert len(draft(policy, 4, np.full(4, 9), COSTS, always(0.9))) == 1


def test_width_is_undervalued_by_the_path_mean() -> None:
    """Known weakness, kept: free verification and drafting, and still siblings are left out."""
    policy = make_policy("smart-paper")
    costs = TableCosts(line(1.0, 1e-4), (1e-4,))
    last = draft(policy, 1, np.array([50]), costs, always(0.6, 0.3))[-1][0]
    nodes = policy.cut(last).nodes
    assert len(nodes) < last.forest.size - 1


def test_costs_are_fitted_once_for_each_batch_size() -> None:
    policy = SmartPaper(EXAMPLE)
    draft(policy, 1, np.array([50]), COSTS, example)
    dear = TableCosts(line(1.0, 100.0), (100.0,))
    assert len(draft(policy, 1, np.array([50]), dear, example)) > 2  # still as first fitted
    policy.reset()
    assert policy.cut(draft(policy, 1, np.array([50]), dear, example)[-1][0]).nodes.size == 0


@pytest.mark.parametrize("paths", ["before", "after"])
def test_a_node_is_tried_even_where_a_more_probable_one_has_failed(paths: str) -> None:
    """A child that adds a path may fail where a less probable one that extends a path stays."""
    options = SmartPaperOptions(alpha=1.5, budget=40, paths=paths)
    policy, costs = SmartPaper(options), TableCosts(line(1.0, 0.004), line(0.002, 0.001))
    overtaken = 0
    for seed in range(50):
        propose = random_propose(np.random.default_rng(seed))
        last = draft(policy, 1, np.array([4]), costs, propose)[-1][0]
        nodes = policy.cut(last).nodes.tolist()
        assert nodes == naive_cut(last, options)
        forest = last.forest
        for depth in range(1, 4):
            layer = [x for x in range(1, forest.size) if forest.depth[x] == depth]
            stay = [forest.path_prob[x] for x in layer if x in nodes]
            gone = [forest.path_prob[x] for x in layer if x not in nodes]
            overtaken += bool(stay and gone and max(gone) > min(stay))
    assert (overtaken > 0) == (paths == "after")

from __future__ import annotations

import numpy as np
import pytest

from smartprof.errors import InputError
from smartprof.policies.base import Cut, Outcome, Policy, Round
from smartprof.policies.cap import Cap, CapOptions
from smartprof.policies.chain import Chain, ChainOptions
from smartprof.policies.eagle2 import Eagle2, Eagle2Options
from smartprof.policies.options import list_options
from smartprof.policies.plain import Plain
from smartprof.policies.ranking import before_within, largest, rank_within
from smartprof.policies.smart import Smart, SmartOptions
from smartprof.policies.table import POLICIES, make_policy
from smartprof.trees.forest import Forest
from smartprof.trees.shape import TreeShape
from tests.costs import TableCosts, line
from tests.drafting import Propose, always, draft, expand, make_round, random_propose
from tests.forests import ancestors


def play(
    policy: Policy, costs: TableCosts, batch: int, propose: Propose, right: bool
) -> tuple[bool, Cut]:
    """A whole round in which the target agrees with the first child everywhere, or nowhere."""
    room = np.full(batch, 50)
    plain_seconds = costs.plain_decode(batch, 100.0)
    forest, seconds = Forest.roots(np.arange(batch)), 0.0
    while (nodes := policy.grow(make_round(forest, room, costs, plain_seconds))).size:
        first = forest.size == batch
        seconds += float(
            costs.draft_catchup(batch, batch, 100.0)
            if first
            else costs.draft_step(batch, len(nodes), 100.0)
        )
        forest = expand(forest, nodes, propose)
    cut = policy.cut(make_round(forest, room, costs, plain_seconds))
    chosen = forest.mask(cut.nodes)
    accepted = np.zeros(forest.size, bool)
    for node in range(batch, forest.size):
        above = forest.parent[node]
        on_path = above < batch or accepted[above]
        accepted[node] = right and chosen[node] and on_path and forest.token[node] == 0
    committed = 1 + np.bincount(forest.request[accepted], minlength=batch)
    seconds += float(costs.verify(batch, cut.pad_to, 100.0))
    drafted = bool(forest.expanded.any())
    policy.observe(Outcome(committed, seconds, drafted, forest, cut, accepted))
    return drafted, cut


CHEAP = TableCosts(line(1.0, 0.01), line(0.001, 0.001), 0.001)


def test_plain_never_drafts() -> None:
    round = make_round(Forest.roots(np.arange(3)), np.full(3, 9), CHEAP)
    assert Plain().grow(round).size == 0
    assert Plain().cut(round).nodes.size == 0
    assert Plain().cut(round).pad_to == 3


@pytest.mark.parametrize("seed", range(50))
def test_a_chain_is_one_path_per_request_along_the_best_children_and_at_most_k_deep(
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    batch, k = int(rng.integers(1, 5)), int(rng.integers(1, 7))
    room = rng.integers(1, 9, batch)
    policy = Chain(ChainOptions(k=k))
    seen = draft(policy, batch, room, CHEAP, random_propose(rng))
    round = seen[-1][0]
    forest, cut = round.forest, policy.cut(round)
    assert cut.pad_to == batch + len(cut.nodes)
    for request in range(batch):
        path = [x for x in cut.nodes.tolist() if forest.request[x] == request]
        assert len(path) <= min(k, room[request] - 1)
        assert path == (ancestors(forest, path[-1]) if path else [])
        for node in path:
            siblings = forest.parent == forest.parent[node]
            assert forest.path_prob[node] == forest.path_prob[siblings].max()
        # it ended because it was long enough or because nothing was proposed
        end = path[-1] if path else request
        short = len(path) < min(k, room[request] - 1)
        assert not short or (forest.expanded[end] and not (forest.parent == end).any())


def naive_beam(round: Round, options: Eagle2Options) -> list[int]:
    """EAGLE-2, expansion phase: per request the k most probable nodes of the newest layer."""
    forest, chosen = round.forest, []
    newest = max(forest.depth)
    for request in range(round.batch):
        if newest < min(options.depth, round.room[request] - 1):
            layer = [
                x
                for x in range(forest.size)
                if forest.request[x] == request and forest.depth[x] == newest
            ]
            chosen += sorted(layer, key=lambda x: -forest.path_prob[x])[: options.k]
    return sorted(chosen)


def naive_rerank(round: Round, options: Eagle2Options) -> list[int]:
    """EAGLE-2, reranking phase: per request the m most probable nodes of all layers."""
    forest, chosen = round.forest, []
    for request in range(round.batch):
        reach = min(options.depth, round.room[request] - 1)
        nodes = [
            x
            for x in range(round.batch, forest.size)
            if forest.request[x] == request and forest.depth[x] <= reach
        ]
        chosen += sorted(nodes, key=lambda x: -forest.path_prob[x])[: options.m]
    return sorted(chosen)


@pytest.mark.parametrize("seed", range(200))
def test_eagle2_is_a_beam_per_layer_and_the_best_m_of_all_layers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch = int(rng.integers(1, 5))
    m, depth, k = (int(rng.integers(1, most)) for most in (20, 6, 5))
    options = Eagle2Options(m=m, depth=depth, k=k)
    policy = Eagle2(options)
    seen = draft(policy, batch, rng.integers(1, 9, batch), CHEAP, random_propose(rng))
    for round, nodes in seen[:-1]:
        assert nodes.tolist() == naive_beam(round, options)
    last = seen[-1][0]
    assert naive_beam(last, options) == [] or last.forest.expanded[naive_beam(last, options)].all()
    cut = policy.cut(last)
    assert cut.nodes.tolist() == naive_rerank(last, options)
    chosen = last.forest.mask(cut.nodes)
    assert chosen[last.forest.parent[cut.nodes]].all()


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_cap_is_eagle2_with_the_budgets_equal_share(batch: int) -> None:
    cap, share = Cap(CapOptions(budget=11, depth=3, k=2)), 11 // batch
    eagle2 = Eagle2(Eagle2Options(m=share, depth=3, k=2))
    room = np.full(batch, 9)
    drafts = [
        draft(x, batch, room, CHEAP, random_propose(np.random.default_rng(batch)))
        for x in (cap, eagle2)
    ]
    for (_, ours), (_, theirs) in zip(*drafts, strict=True):
        assert ours.tolist() == theirs.tolist()
    last = drafts[0][-1][0]
    assert cap.cut(last).nodes.tolist() == eagle2.cut(last).nodes.tolist()
    assert cap.most_nodes(batch) == share


def test_cap_decodes_plainly_where_no_request_gets_a_node() -> None:
    cap = Cap(CapOptions(budget=3))
    assert len(draft(cap, 4, np.full(4, 9), CHEAP, always(0.9))) == 1
    assert len(draft(cap, 3, np.full(3, 9), CHEAP, always(0.9))) > 1


@pytest.mark.parametrize(
    "text",
    [
        "chain:k=9",
        "static:tree=3/2+1/1+1/1/1",
        "static:accept=0.8+0.1",
        "eagle2:depth=9",
        "cap",
        "smart-paper:alpha=2",
        "smart",
    ],
)
def test_no_policy_drafts_or_verifies_a_token_for_which_there_is_no_room(text: str) -> None:
    rng = np.random.default_rng(5)
    drafted = 0
    for _ in range(60):
        batch = int(rng.integers(1, 5))
        room = rng.integers(1, 5, batch)
        policy = make_policy(text)
        seen = draft(policy, batch, room, CHEAP, random_propose(rng))
        for round, nodes in seen:
            forest = round.forest
            assert not forest.expanded[nodes].any()
            assert (forest.depth[nodes] + 1 < room[forest.request[nodes]]).all()
        forest, cut = seen[-1][0].forest, policy.cut(seen[-1][0])
        assert (forest.depth[cut.nodes] < room[forest.request[cut.nodes]]).all()
        drafted += len(cut.nodes)
    assert drafted > 100


@pytest.mark.parametrize("text", [*POLICIES, "static:accept=0.9"])
def test_with_room_for_one_token_each_nothing_is_drafted(text: str) -> None:
    policy = make_policy(text)
    round = make_round(Forest.roots(np.arange(3)), np.ones(3, np.int64), CHEAP)
    assert policy.grow(round).size == 0
    assert policy.cut(round).nodes.size == 0
    assert policy.cut(round).pad_to == 3


def lost_share(options: SmartOptions, catchup_seconds: float, rounds: int = 4000) -> float:
    """Share of its time that `smart` spends on a drafter whose proposals are never right."""
    costs = TableCosts(line(1.0, 0.0), (catchup_seconds,), catchup_seconds)
    policy = Smart(options)
    drafted = [play(policy, costs, 2, always(0.5), right=False)[0] for _ in range(rounds)]
    return sum(drafted) * catchup_seconds / rounds


@pytest.mark.parametrize("catchup_seconds", [0.01, 0.1, 0.5, 1.0, 5.0])
def test_trials_of_a_useless_drafter_cost_little_however_dear_it_is(catchup_seconds: float) -> None:
    assert lost_share(SmartOptions(), catchup_seconds) < 0.01
    if catchup_seconds >= 0.5:  # negative control: trials at fixed intervals
        assert lost_share(SmartOptions(probe=16), catchup_seconds) > 0.025


def test_smart_leaves_a_drafter_that_is_sure_and_wrong_and_returns_when_it_is_right() -> None:
    costs = TableCosts(line(1.0, 0.1), (0.05,), catchup_seconds=0.2)
    policy = Smart(SmartOptions(probe=8))
    wrong = [play(policy, costs, 1, always(0.9), right=False)[0] for _ in range(100)]
    assert wrong[0] and sum(wrong[-40:]) == 5
    right = [play(policy, costs, 1, always(0.9), right=True)[0] for _ in range(100)]
    assert 0 in [right.index(True) - x for x in range(8)]
    assert all(right[right.index(True) :])


def test_smart_keeps_looking_where_a_look_costs_next_to_nothing() -> None:
    costs = TableCosts(line(1.0, 0.1), (1e-5,), catchup_seconds=1e-4)
    policy = Smart()
    assert all(play(policy, costs, 4, always(), right=True)[0] for _ in range(200))


def test_smart_verifies_deep_for_a_sure_drafter_and_nothing_for_a_poor_one() -> None:
    costs = TableCosts(line(1.0, 0.05), (0.001,), catchup_seconds=0.001)
    sure, poor = Smart(), Smart()
    for _ in range(50):
        _, deep = play(sure, costs, 1, always(0.95), right=True)
        _, empty = play(poor, costs, 1, always(0.01), right=False)
    assert len(deep.nodes) >= 8
    assert len(empty.nodes) == 0


def test_smart_spends_verify_tokens_on_the_predictable_request() -> None:
    def propose(forest: Forest, node: int) -> list[float]:
        return [0.95] if forest.request[node] == 1 else [0.2]

    policy = Smart()
    costs = TableCosts(line(1.0, 0.08), (0.001,), catchup_seconds=0.001)
    seen = draft(policy, 2, np.full(2, 50), costs, propose)
    forest, cut = seen[-1][0].forest, policy.cut(seen[-1][0])
    assert (forest.request[cut.nodes] == 1).sum() > 5 > (forest.request[cut.nodes] == 0).sum()


def test_smart_stays_within_its_limits() -> None:
    options = SmartOptions(depth=3, limit=10, most=12)
    free = TableCosts([1.0], (0.0,))
    policy = Smart(options)
    seen = draft(policy, 2, np.full(2, 50), free, always(0.5, 0.3, 0.2))
    forest, cut = seen[-1][0].forest, policy.cut(seen[-1][0])
    assert forest.depth.max() <= 3
    # a step may overshoot by what its last nodes propose, never start beyond the limit
    assert all(x.forest.size - 2 < 20 for x, nodes in seen if nodes.size)
    assert 2 + len(cut.nodes) <= cut.pad_to <= 12


def test_smart_forgets_everything_on_reset() -> None:
    costs = TableCosts(line(1.0, 0.1), (0.05,), catchup_seconds=0.2)
    policy = Smart()
    first = [play(policy, costs, 1, always(0.9), right=False)[0] for _ in range(60)]
    policy.reset()
    assert [play(policy, costs, 1, always(0.9), right=False)[0] for _ in range(60)] == first
    assert not all(first)


def test_the_long_run_rate_raises_the_price_of_a_second() -> None:
    costs = TableCosts(line(1.0, 0.3), (0.001,), catchup_seconds=0.001)
    fresh, spoilt = Smart(), Smart()
    for _ in range(100):
        play(spoilt, costs, 1, always(0.98), right=True)
    _, before = play(fresh, costs, 1, always(0.5), right=True)
    _, after = play(spoilt, costs, 1, always(0.5), right=True)
    assert len(after.nodes) < len(before.nodes)


def test_an_outcome_knows_which_nodes_were_put_to_the_test() -> None:
    forest = expand(Forest.roots(np.arange(2)), np.array([0, 1]), always(0.5, 0.3))  # nodes 2..5
    forest = expand(forest, np.array([2, 4]), always(0.5, 0.3))  # below 2: 6, 7; below 4: 8, 9
    cut = Cut(np.array([2, 3, 4, 6, 8]), 7)
    accepted = np.zeros(forest.size, bool)
    accepted[[2]] = True
    outcome = Outcome(np.array([2, 1]), 1.0, True, forest, cut, accepted)
    assert outcome.verified.nonzero()[0].tolist() == [0, 1, 2, 3, 4, 6, 8]
    assert outcome.reached.nonzero()[0].tolist() == [2, 3, 4, 6]


def test_ranking_within_groups_equals_sorting_each_group() -> None:
    rng = np.random.default_rng(2)
    for _ in range(100):
        count = int(rng.integers(0, 20))
        group, value = rng.integers(0, 4, count), rng.integers(0, 4, count).astype(float)
        expected = [
            sum(group[j] == group[i] and (value[j], -j) > (value[i], -i) for j in range(count))
            for i in range(count)
        ]
        assert rank_within(group, value).tolist() == expected


def test_the_largest_of_many_are_the_first_of_all_sorted_ties_included() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        value = rng.integers(0, rng.integers(1, 30), rng.integers(0, 40)) / 7
        most = int(rng.integers(0, 42))
        everything = sorted(range(len(value)), key=lambda x: (-value[x], x))
        assert largest(value, most).tolist() == everything[:most]


def test_sums_within_groups_are_those_of_each_group_alone() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        count = int(rng.integers(0, 20))
        group, value = np.sort(rng.integers(0, 4, count)), rng.integers(0, 9, count).astype(float)
        expected = [value[:i][group[:i] == group[i]].sum() for i in range(count)]
        assert before_within(group, value).tolist() == expected


def test_policies_are_made_from_their_names_and_options() -> None:
    names = {"plain", "chain", "static", "eagle2", "cap", "smart-paper", "smart", "smart-without"}
    assert set(POLICIES) == names
    assert make_policy("chain").options == ChainOptions(k=4)
    assert make_policy("chain:k=2").options == ChainOptions(k=2)
    assert make_policy("eagle2").options == Eagle2Options(m=16, depth=4, k=8)
    assert make_policy("eagle2:m=4:k=2").options == Eagle2Options(m=4, depth=4, k=2)
    assert make_policy("smart:half_life=8:probe=4").options == SmartOptions(half_life=8.0, probe=4)
    assert make_policy("cap:budget=9").options == CapOptions(budget=9)
    assert make_policy("static:tree=3/2+1").options.tree == TreeShape.parse("3/2+1")
    assert all(make_policy(x).name == x for x in POLICIES)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_says_what_it_is_and_takes_the_defaults_that_it_lists(name: str) -> None:
    policy_type = POLICIES[name]
    assert policy_type.summary
    assert "arXiv" in policy_type.paper or name == "plain"
    defaults = policy_type.options_type()
    for option in list_options(policy_type.options_type):
        assert option.kind and option.range and option.meaning
        if option.default != "none":
            text = f"{name}:{option.name}={option.default}"
            assert make_policy(text).options == defaults


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "fast",
            "expected a policy of plain, chain, static, .*, smart, .*, or a file .py, got 'fast'",
        ),
        ("", "expected a policy"),
        ("chain:q=3", r"unknown option 'q=3'.*k=4 \(1 to 64"),
        ("chain:k", "unknown option 'k'"),
        ("chain:", "unknown option ''"),
        ("chain:k=two", "no int"),
        ("chain:k=2.5", "no int"),
        ("chain:k=0", "out of bounds"),
        ("chain:k=1:k=2", "given twice"),
        ("smart:half_life=nan", "out of bounds"),
        ("smart-paper:root=gone", "root='gone' is none of counted, left-out"),
        ("static:tree=3/2+x", r"tree='3/2\+x' is no tree"),
        ("static:tree=1/2+1", r"tree='1/2\+1' is no tree: expected at most 1 numbers for layer 1"),
        ("static:tree=600", "too large: expected 512 nodes, got 600"),
        ("static:accept=0.7+0.4", "no acceptance such as .*sum to at most 1, got 1.1"),
        ("static:accept=nan", "no acceptance such as .*expected rates from 0 to 1"),
        ("static:accept=", "no acceptance such as"),
        ("static:tree=2:accept=0.5", "expected tree or accept, got both"),
        ("plain:k=1", "its options: none"),
    ],
)
def test_a_wrong_policy_text_is_refused_in_one_line(text: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        make_policy(text)
    assert "\n" not in str(caught.value)

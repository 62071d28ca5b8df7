from __future__ import annotations

import numpy as np
import pytest

from smartprof.policies.smart_without import BEAM, FIXED_DEPTH, SmartWithout
from smartprof.policies.table import make_policy
from tests.costs import TableCosts, line
from tests.drafting import always, draft, random_propose
from tests.test_smart_cut import CASES, best_value, first_drop_cut, random_round, value_of


def without(part: str) -> SmartWithout:
    policy = make_policy(f"smart-without:part={part}")
    assert isinstance(policy, SmartWithout)
    return policy


def test_without_exact_it_stops_where_the_objective_first_falls() -> None:
    for seed in range(CASES):
        round, theta = random_round(seed)
        cut, expected = without("exact").cut(round), first_drop_cut(round, theta)
        assert cut.nodes.tolist() == expected.nodes.tolist() and cut.pad_to == expected.pad_to


def test_without_joint_each_request_sizes_its_tree_as_if_all_had_as_many_nodes() -> None:
    worse = 0
    for seed in range(CASES):
        round, theta = random_round(seed)
        cut, batch, forest = without("joint").cut(round), round.batch, round.forest
        seconds = round.costs.verify_envelope(batch, 65 * batch, 100.0).seconds
        counts = np.bincount(forest.request[cut.nodes], minlength=batch)
        for request in range(batch):
            own = [
                float(forest.path_prob[x])
                for x in range(batch, forest.size)
                if forest.request[x] == request and forest.depth[x] < round.room[request]
            ]
            own.sort(reverse=True)
            most = len(own)
            worth = [sum(own[:n]) - theta * seconds[n * batch] / batch for n in range(most + 1)]
            assert counts[request] == int(np.argmax(worth))
        worse += value_of(round, cut, theta) < best_value(round, theta) - 1e-9
    assert worse >= 30


def test_without_depth_pricing_it_drafts_a_beam_to_a_fixed_depth_at_any_price() -> None:
    dear = TableCosts(line(1.0, 0.01), line(0.6, 0.1), 0.0)
    priced = draft(make_policy("smart"), 2, np.full(2, 30), dear, always(0.5, 0.3))
    unpriced = draft(without("depth"), 2, np.full(2, 30), dear, always(0.5, 0.3))
    assert len(priced) < len(unpriced) == FIXED_DEPTH + 1
    for round, nodes in unpriced[1:-1]:
        assert (np.bincount(round.forest.request[nodes], minlength=2) <= BEAM).all()
        assert (round.forest.depth[nodes] == round.forest.depth.max()).all()


def test_without_fallback_it_drafts_although_that_never_paid() -> None:
    dear = TableCosts(line(1.0, 1.0), line(5.0, 0.1), 5.0)
    rng = np.random.default_rng(0)
    for policy, drafts in ((make_policy("smart"), False), (without("fallback"), True)):
        room = np.full(2, 30)
        seen = draft(policy, 2, room, dear, random_propose(rng))
        assert bool(seen[0][1].size) == drafts


@pytest.mark.parametrize("part", ["depth", "fallback"])
def test_parts_of_drafting_leave_the_cut_as_it_is(part: str) -> None:
    for seed in range(50):
        round, _ = random_round(seed)
        whole, cut = make_policy("smart").cut(round), without(part).cut(round)
        assert cut.nodes.tolist() == whole.nodes.tolist()

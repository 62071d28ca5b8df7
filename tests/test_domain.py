from __future__ import annotations

import pytest

from smartprof.decode.domain import largest_tree, require_domain
from smartprof.errors import DomainError
from smartprof.policies.table import make_policy
from smartprof.profile.cost import CostModel
from tests.profiles import make_profile, make_surface


def test_a_shared_budget_makes_the_largest_trees_when_the_batch_has_shrunk() -> None:
    assert largest_tree(make_policy("cap:budget=200"), 8) == 201
    assert largest_tree(make_policy("smart-paper:budget=30"), 4) == 31
    assert largest_tree(make_policy("chain:k=3"), 8) == 4
    assert largest_tree(make_policy("plain"), 8) == 1
    assert largest_tree(make_policy("smart"), 8) is None


def test_a_batch_that_will_shrink_is_refused_for_what_it_shrinks_to() -> None:
    costs = CostModel(make_profile(), "ngram")
    require_domain(costs, make_policy("plain"), 4, 100, ["ngram"])
    with pytest.raises(DomainError, match="got 4001"):
        require_domain(costs, make_policy("cap:budget=4000"), 4, 100, ["ngram"])


def _with_short_drafting(sizes: tuple[int, ...], quantity: str = "draft_step") -> CostModel:
    """Passes up to 128 tokens, a draft quantity up to fewer."""
    profile = make_profile()
    costs = profile.drafters["ngram"].model_copy(
        update={quantity: make_surface(quantity, lambda *_: 1e-4, sizes=sizes)}  # type: ignore[arg-type]
    )
    return CostModel(profile.model_copy(update={"drafters": {"ngram": costs}}), "ngram")


@pytest.mark.parametrize(
    ("policy", "enough"),
    [
        ("eagle2:m=8:k=9", 18),
        ("cap:budget=8:k=9", 18),
        ("static:tree=3/3+3+3/1+1+1+1+1+1+1+1+1", 18),
        ("static:accept=0.9:size=20", 21),
        ("smart-paper:budget=40", 21),
        ("smart", 64),
        ("smart-without:part=joint", 64),
    ],
)
def test_a_draft_step_that_was_measured_too_short_is_refused_before_the_run(
    policy: str, enough: int
) -> None:
    require_domain(_with_short_drafting((1, enough)), make_policy(policy), 4, 100, ["ngram"])
    with pytest.raises(DomainError, match="draft_step: expected rows"):
        require_domain(_with_short_drafting((1, 2)), make_policy(policy), 4, 100, ["ngram"])


@pytest.mark.parametrize("policy", ["chain:k=1", "eagle2:m=8:depth=1", "static:tree=3", "plain"])
def test_a_policy_that_takes_no_draft_step_asks_for_none(policy: str) -> None:
    require_domain(_with_short_drafting((400,)), make_policy(policy), 4, 100, ["ngram"])


def test_a_step_of_fewer_nodes_than_were_measured_is_refused_before_the_run() -> None:
    with pytest.raises(DomainError, match="draft_step: expected rows"):
        require_domain(_with_short_drafting((8, 64)), make_policy("chain"), 4, 100, ["ngram"])


def test_a_catch_up_of_another_batch_is_refused_before_the_run() -> None:
    profile, short = make_profile(), make_profile(batches=(16,))
    costs = profile.drafters["ngram"].model_copy(
        update={"draft_catchup": short.drafters["ngram"].draft_catchup}
    )
    model = CostModel(profile.model_copy(update={"drafters": {"ngram": costs}}), "ngram")
    require_domain(model, make_policy("plain"), 2, 100, ["ngram"])
    for policy in ("chain:k=1", "smart"):
        with pytest.raises(DomainError, match="draft_catchup: expected batch"):
            require_domain(model, make_policy(policy), 2, 100, ["ngram"])

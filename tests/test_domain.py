from __future__ import annotations

import pytest

from smartprof.decode.domain import largest_tree, require_domain
from smartprof.errors import DomainError
from smartprof.policies.table import make_policy
from smartprof.profile.cost import CostModel
from tests.profiles import make_profile


def test_a_shared_budget_makes_the_largest_trees_when_the_batch_has_shrunk() -> None:
    assert largest_tree(make_policy("cap:budget=200"), 8) == 201
    assert largest_tree(make_policy("smart-paper:budget=30"), 4) == 31
    assert largest_tree(make_policy("chain:k=3"), 8) == 4
    assert largest_tree(make_policy("plain"), 8) == 1
    assert largest_tree(make_policy("smart"), 8) is None


def test_a_batch_that_will_shrink_is_refused_for_what_it_shrinks_to() -> None:
    costs = CostModel(make_profile(), "ngram")
    require_domain(costs, make_policy("plain"), 4, 100)
    with pytest.raises(DomainError, match="got 4001"):
        require_domain(costs, make_policy("cap:budget=4000"), 4, 100)

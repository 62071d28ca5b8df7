from __future__ import annotations

import pytest

from smartprof.calibrate.contexts import longest_context, spread_contexts


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("context", [1, 2, 64, 101, 1024])
def test_contexts_spread_within_half_around_their_mean(batch: int, context: int) -> None:
    found = spread_contexts(batch, context)
    assert found.shape == (batch,)
    assert found.mean() == context
    assert found.min() >= max(1, context // 2)
    assert found.max() == longest_context(batch, context) <= context + -(-context // 2)
    assert (found[1:] >= found[:-1]).all()


def test_one_request_has_the_context_itself_and_several_differ() -> None:
    assert spread_contexts(1, 300).tolist() == [300]
    assert spread_contexts(4, 64).tolist() == [40, 56, 72, 88]

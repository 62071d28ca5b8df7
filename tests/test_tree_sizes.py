from __future__ import annotations

import numpy as np
import pytest

from smartprof.calibrate.contexts import spread_contexts
from smartprof.calibrate.synthetic import heaps
from smartprof.calibrate.tree_sizes import skewed_sizes


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("drafted", [0, 1, 5, 64, 240])
def test_sizes_share_out_all_tokens_and_every_request_has_its_root(
    batch: int, drafted: int
) -> None:
    sizes = skewed_sizes(batch, batch + drafted)
    assert sizes.shape == (batch,)
    assert sizes.sum() == batch + drafted
    assert sizes.min() >= 1


def test_sizes_are_the_quantiles_of_an_exponential_distribution() -> None:
    batch, drafted = 64, 64_000
    quantiles = -np.log1p(-(np.arange(batch) + 0.5) / batch)  # of mean 1, at the middles
    found = np.sort(skewed_sizes(batch, batch + drafted) - 1) / (drafted / batch)
    assert np.abs(found - quantiles)[:-1].max() < 0.02
    assert found[-1] == pytest.approx(1 + np.log(batch), rel=0.01)  # the mean of the last part


def test_large_trees_do_not_fall_on_long_contexts() -> None:
    for batch in (4, 8, 16, 64):
        sizes = skewed_sizes(batch, 10 * batch)
        assert abs(np.corrcoef(sizes, spread_contexts(batch, 512))[0, 1]) < 0.4


def test_heaps_have_the_sizes_asked_for_and_two_children_to_a_node() -> None:
    sizes = np.array([1, 7, 2, 4])
    forest = heaps(sizes, vocab=50)
    assert np.bincount(forest.request).tolist() == sizes.tolist()
    children = np.bincount(forest.parent[4:], minlength=forest.size)
    assert children.max() == 2
    assert forest.depth[forest.request == 1].tolist() == [0, 1, 1, 2, 2, 2, 2]

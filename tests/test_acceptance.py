"""Calibrated acceptance: known answers, a slow second implementation, and known truths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from smartprof.trees.acceptance import FEATURES, Calibration, Labelled, Proposals
from smartprof.trees.reliability import NO_EVENTS, PlaceCount, Reliability, count_places
from tests.synthetic_acceptance import World, honest, overconfident

WEIGHTS = np.array([-0.4, 0.5, 0.3, 0.2, -0.5, 0.25])


def siblings(rng: np.random.Generator, nodes: int) -> Proposals:
    """Up to five children of each of so many nodes, in no order."""
    counts = rng.integers(1, 6, nodes)
    stated = np.concatenate([rng.dirichlet(np.r_[2.0, np.full(x, 0.6)])[1:] for x in counts]).clip(
        1e-6
    )
    parent = np.repeat(rng.permutation(nodes), counts)
    order = rng.permutation(len(parent))
    depth = rng.integers(1, 9, nodes)[parent]
    return Proposals.sort(parent[order], stated[order], depth[order])[0]


def drawn(rng: np.random.Generator, proposals: Proposals, chance: NDArray[np.float64]) -> Labelled:
    """Labels of siblings that are right with these chances, at most one of them."""
    below = np.concatenate([[0.0], chance.cumsum()])[:-1]
    start = below - below[proposals.first][proposals.group]
    point = rng.random(len(proposals.first))[proposals.group]
    return Labelled(proposals, (point >= start) & (point < start + chance))


def sampled(rng: np.random.Generator, nodes: int, weights: NDArray[np.float64]) -> Labelled:
    """Labels from the model itself, with these weights."""
    proposals = siblings(rng, nodes)
    truth = Calibration(weights, np.eye(len(FEATURES)))
    return drawn(rng, proposals, truth.calibrated(proposals))


def world_labels(seed: int, overconfidently: bool, nodes: int = 1000) -> Labelled:
    """Of a drafter that states true chances, or log-probabilities times 0.6."""
    world = World(1, seed)
    truth, target = world.chances[0, :nodes], world.target[0, :nodes]
    stated = (overconfident if overconfidently else honest)(truth)
    width = truth.shape[1]
    parent = np.arange(nodes).repeat(width)
    depth = 1 + parent % 5
    right = np.arange(width) == target[:, None]
    return Labelled.of(parent, stated.ravel(), depth, right.ravel())


def test_features_and_probabilities_are_those_computed_by_hand() -> None:
    proposals, order = Proposals.sort([7, 3, 7, 3, 5], [0.2, 0.1, 0.5, 0.6, 0.25], [2, 1, 2, 1, 3])
    assert order.tolist() == [3, 1, 4, 2, 0]
    assert proposals.group.tolist() == [0, 0, 1, 2, 2]
    assert proposals.rank.tolist() == [0, 1, 0, 0, 1]
    by_hand = [
        [1, math.log(0.6), math.log(0.3), math.log(0.6 / 0.1), 0, math.log(1)],
        [1, math.log(0.1), math.log(0.3), math.log(0.1 / 0.6), math.log(2), math.log(1)],
        [1, math.log(0.25), math.log(0.75), math.log(0.25 / 0.005), 0, math.log(3)],
        [1, math.log(0.5), math.log(0.3), math.log(0.5 / 0.2), 0, math.log(2)],
        [1, math.log(0.2), math.log(0.3), math.log(0.2 / 0.5), math.log(2), math.log(2)],
    ]
    np.testing.assert_allclose(proposals.features, by_hand, atol=1e-12)
    doubled = Calibration(np.eye(len(FEATURES))[0] * math.log(2), np.eye(len(FEATURES)))
    # every child's odds against none of them twice as large
    expected = [1.2 / 1.7, 0.2 / 1.7, 0.5 / 1.25, 1.0 / 1.7, 0.4 / 1.7]
    np.testing.assert_allclose(doubled.calibrated(proposals), expected)


def test_before_anything_was_seen_it_says_what_the_drafter_states() -> None:
    proposals = siblings(np.random.default_rng(0), 300)
    certain = np.bincount(proposals.group, proposals.stated)[proposals.group] > 0.999
    tiny = proposals.stated < 1e-4
    kept = ~certain & ~tiny
    found = Calibration.identity().calibrated(proposals)
    np.testing.assert_allclose(found[kept], proposals.stated[kept], rtol=1e-3)


@settings(deadline=None)
@given(
    weights=st.lists(st.floats(-4, 4), min_size=len(FEATURES), max_size=len(FEATURES)),
    shares=st.lists(st.lists(st.floats(1e-9, 1), min_size=1, max_size=6), min_size=1, max_size=5),
    rest=st.sampled_from([0.0, 1e-6, 0.3, 4.0]),
)
def test_siblings_never_sum_above_one_and_keep_their_order(
    weights: list[float], shares: list[list[float]], rest: float
) -> None:
    parent = [x for x, y in enumerate(shares) for _ in y]
    stated = [z / (sum(y) + rest) for y in shares for z in y]
    proposals, _ = Proposals.sort(parent, stated, [1 + x for x in parent])
    found = Calibration(np.array(weights), np.eye(len(FEATURES))).calibrated(proposals)
    assert ((found > 0) & (found <= 1)).all()
    assert (np.bincount(proposals.group, found) <= 1 + 1e-12).all()
    same = proposals.group[1:] == proposals.group[:-1]
    assert (found[1:][same] <= found[:-1][same]).all()


def test_known_weights_are_recovered() -> None:
    seen = sampled(np.random.default_rng(1), 30_000, WEIGHTS)
    found = Calibration.identity().fitted(seen)
    deviation = np.sqrt(np.diag(np.linalg.inv(found.precision)))
    assert (deviation < 0.1).all()
    assert (np.abs(found.weights - WEIGHTS) < 4 * deviation).all()
    shuffled = Labelled(seen.proposals, np.roll(seen.right, 1))  # negative control
    other = Calibration.identity().fitted(shuffled)
    assert (np.abs(other.weights - WEIGHTS) > 4 * deviation).any()


def log_posterior(start: Calibration, seen: Labelled, weights: NDArray[np.float64]) -> float:
    """Slow and obvious: node by node."""
    proposals, total = seen.proposals, 0.0
    for group in range(int(proposals.group.max()) + 1):
        mine = np.flatnonzero(proposals.group == group)
        rest = max(1 - float(proposals.stated[mine].sum()), 1e-3)
        odds = [
            max(proposals.stated[x], 1e-4) / rest * math.exp(proposals.features[x] @ weights)
            for x in mine
        ]
        chosen = [y for x, y in zip(mine, odds, strict=True) if seen.right[x]]
        total += math.log((chosen[0] if chosen else 1.0) / (1.0 + sum(odds)))
    off = weights - start.weights
    return total - 0.5 * float(off @ start.precision @ off)


def test_a_fit_is_the_maximum_of_the_posterior_and_its_precision_the_curvature() -> None:
    seen = sampled(np.random.default_rng(2), 60, WEIGHTS)
    start = Calibration(0.1 * WEIGHTS, np.diag(np.arange(2.0, 8.0)))
    found = start.fitted(seen)
    best, step = log_posterior(start, seen, found.weights), 1e-3
    for feature in range(len(FEATURES)):
        aside = step * np.eye(len(FEATURES))[feature]
        below, above = (log_posterior(start, seen, found.weights + x) for x in (-aside, aside))
        assert max(below, above) < best
        curvature = (2 * best - below - above) / step**2
        assert curvature == pytest.approx(found.precision[feature, feature], rel=1e-3)


def test_learning_round_by_round_ends_where_one_fit_of_everything_does() -> None:
    rng = np.random.default_rng(3)
    parts = [sampled(rng, 32, WEIGHTS) for _ in range(200)]
    online = Calibration.identity()
    for part in parts:
        online = online.updated(part)
    everything = Labelled.joined(parts)
    batch = Calibration.identity().fitted(everything)
    deviation = np.sqrt(np.diag(np.linalg.inv(batch.precision)))
    assert (np.abs(online.weights - batch.weights) < deviation).all()
    difference = online.calibrated(everything.proposals) - batch.calibrated(everything.proposals)
    assert np.abs(difference).max() < 0.02
    assert (np.abs(batch.weights) > 3 * deviation).any()  # there was something to learn


@pytest.mark.parametrize(("stated", "chance"), [(0.99, 0.05), (0.01, 0.9)])
def test_learning_does_not_overshoot_where_a_drafter_is_far_off(
    stated: float, chance: float
) -> None:
    rng = np.random.default_rng(10)
    found = Calibration.identity()
    for _ in range(60):
        nodes = np.arange(32)
        kept = rng.random(32) < 0.5  # the others state what is true
        values = np.where(kept, stated, 0.5)
        right = rng.random(32) < np.where(kept, chance, 0.5)
        found = found.updated(Labelled.of(nodes, values, np.ones(32), right))
    proposals, _ = Proposals.sort([0, 1], [stated, 0.5], [1, 1])
    values = found.calibrated(proposals)
    assert values == pytest.approx([chance, 0.5], abs=0.08)


def test_labels_that_repeat_each_other_can_be_counted_once() -> None:
    seen = sampled(np.random.default_rng(4), 200, WEIGHTS)
    once = Calibration.identity().fitted(seen)
    twice = Calibration.identity().fitted(Labelled.joined([seen, seen]), 0.5)
    np.testing.assert_allclose(once.weights, twice.weights)
    np.testing.assert_allclose(once.precision, twice.precision)


def test_a_fit_goes_on_from_an_earlier_one() -> None:
    rng = np.random.default_rng(5)
    first, second = (sampled(rng, 2000, WEIGHTS) for _ in range(2))
    in_turn = Calibration.identity().fitted(first).fitted(second)
    together = Calibration.identity().fitted(Labelled.joined([first, second]))
    np.testing.assert_allclose(in_turn.weights, together.weights, atol=0.02)


def test_a_drafter_that_is_right_as_often_as_it_says_is_left_alone() -> None:
    seen = world_labels(6, overconfidently=False)
    found = Calibration.identity().fitted(seen).calibrated(seen.proposals)
    assert np.abs(found - seen.proposals.stated).mean() < 0.01
    other = world_labels(6, overconfidently=True)  # negative control
    moved = Calibration.identity().fitted(other).calibrated(other.proposals)
    assert np.abs(moved - other.proposals.stated).mean() > 0.03


def test_an_overconfident_drafter_is_put_right_on_texts_it_was_not_fitted_to() -> None:
    found = Calibration.identity().fitted(world_labels(7, overconfidently=True, nodes=4000))
    held_out = world_labels(8, overconfidently=True, nodes=4000)
    before = Reliability.of(held_out.proposals.stated, held_out.right).error
    after = Reliability.of(found.calibrated(held_out.proposals), held_out.right).error
    assert before is not None and after is not None
    assert before > 0.05
    assert after < 0.012


def test_nothing_seen_changes_nothing() -> None:
    start = Calibration.identity()
    nothing = Labelled.joined([])
    assert start.updated(nothing) is start
    assert start.fitted(nothing) is start
    assert start.calibrated(nothing.proposals).size == 0
    assert count_places(nothing) == []


def test_the_error_is_the_one_computed_by_hand() -> None:
    probability = np.array([0.95, 0.95, 0.95, 0.95, 0.3, 0.3])
    right = np.array([True, True, False, False, True, False])
    found = Reliability.of(probability, right)
    assert found.error == pytest.approx((4 * 0.45 + 2 * 0.2) / 6)
    assert [(x.count, x.share_right) for x in found.bins] == [(2, 0.5), (4, 0.5)]
    parts = [Reliability.of(probability[x], right[x]) for x in (slice(0, 1), slice(1, 6))]
    assert sum(parts, NO_EVENTS).error == pytest.approx(found.error)
    assert Reliability.of(np.array([1.0]), np.array([True])).error == 0.0
    assert NO_EVENTS.error is None


def test_noise_is_the_error_that_right_probabilities_show() -> None:
    rng = np.random.default_rng(9)
    probability = rng.uniform(0, 1, 600)
    found = [Reliability.of(probability, rng.random(600) < probability) for _ in range(200)]
    errors = [x.error for x in found if x.error is not None]
    assert len(errors) == 200
    assert found[0].noise == pytest.approx(np.mean(errors), rel=0.1)
    assert NO_EVENTS.noise is None


def test_places_are_counted_by_depth_and_rank() -> None:
    seen = Labelled.of(
        [1, 1, 4, 4, 9],
        [0.2, 0.5, 0.4, 0.3, 0.9],
        [1, 1, 2, 2, 1],
        [True, False, True, False, True],
    )
    assert count_places(seen) == [
        PlaceCount(1, 1, 2, 1),
        PlaceCount(1, 2, 1, 1),
        PlaceCount(2, 1, 1, 1),
        PlaceCount(2, 2, 1, 0),
    ]

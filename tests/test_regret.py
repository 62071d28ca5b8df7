from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest

from smartprof.calibrate.fit import fit_surface, roofline_seconds
from smartprof.calibrate.plan import Point
from smartprof.calibrate.quality import with_regret
from smartprof.planning.decisions import CURVES, compare_decisions
from smartprof.planning.regret import REFITS, estimated_regret
from smartprof.planning.sources.table import read_acceptance
from smartprof.profile.cost import CostModel
from smartprof.profile.refits import refitted
from smartprof.profile.schema import AXES, DrafterCosts, Profile, Quantity, Surface
from smartprof.stats import Summary, summarise
from tests.profiles import make_profile
from tests.synthetic_device import SyntheticDevice, truth

ACCEPTANCES = [read_acceptance(x) for x in CURVES]
BATCHES, CONTEXTS = (1, 4, 16), (64, 1024)
PAIRED = (1, 2, 4, 8, *(y for x in (16, 32, 48, 64, 96, 128, 192) for y in (x, x + 1)), 256)
POWERS = tuple(2**x for x in range(9))
SEEDS = 6


def regrets(profile: Profile, true: Profile, drafter: str = "ngram") -> list[float]:
    """Of every decision by the first, the second telling the truth."""
    pair = CostModel(profile, drafter), CostModel(true, drafter)
    return [x.cost_percent for x in compare_decisions(*pair, ACCEPTANCES)]


def test_the_estimate_is_the_regret_against_each_refit_in_turn() -> None:
    """By the other implementation of decisions, one candidate and place at a time."""
    profile = make_profile(half_width=0.03)
    found = estimated_regret(profile, refits=3)
    random = np.random.default_rng(0)
    expected = [y for _ in range(3) for y in regrets(profile, refitted(profile, random))]
    assert found is not None
    assert found.decisions == len(expected) == 3 * 3 * 4 * 3
    assert found.mean_pct == pytest.approx(np.mean(expected), rel=1e-9)
    assert found.p95_pct == pytest.approx(np.quantile(expected, 0.95), rel=1e-9)
    assert found.max_pct == pytest.approx(max(expected), rel=1e-9)
    assert max(expected) > 0


def test_without_noise_nothing_is_lost_and_with_more_noise_more() -> None:
    means = []
    for half_width in (0.0, 0.01, 0.1):
        found = estimated_regret(make_profile(half_width=half_width))
        assert found is not None
        means.append(found.mean_pct)
    assert means[0] == 0
    assert 0 < 3 * means[1] < means[2]


def test_the_estimate_says_what_it_was_made_of() -> None:
    found = with_regret(make_profile(half_width=0.01, drafters=("ngram", "hybrid"))).quality.regret
    assert found is not None
    assert (found.refits, found.acceptance) == (REFITS, list(CURVES))
    assert (found.batches, found.contexts) == ([1, 2, 4, 8], [64, 256, 1024])
    assert found.decisions == REFITS * 2 * len(CURVES) * 4 * 3


def test_where_there_is_no_decision_there_is_no_estimate() -> None:
    assert estimated_regret(make_profile(drafters=())) is None
    assert estimated_regret(make_profile(sizes=(8,), batches=(8,))) is None  # room for roots alone


def test_batches_without_room_for_a_draft_are_left_out() -> None:
    found = estimated_regret(make_profile(sizes=(1, 2, 4, 8)), refits=1)
    assert found is not None
    assert found.batches == [1, 2, 4]


@cache
def true_profile() -> Profile:
    """The synthetic device's law at every size, with batches between those measured."""

    def law(quantity: Quantity, batch: int, size: int, context: int) -> float:
        return truth(Point(quantity, batch, size, context))

    return make_profile(
        lambda *x: law("verify", *x),
        overhead=lambda *x: law("round_overhead", *x),
        plain=lambda *x: law("plain_decode", *x),
        draft_step=lambda *x: law("draft_step", *x),
        draft_catchup=lambda *x: law("draft_catchup", *x),
        batches=(1, 2, 4, 8, 16),
        contexts=CONTEXTS,
        sizes=range(1, 257),
    )


def measured_profile(seed: int, sizes: tuple[int, ...]) -> Profile:
    """The synthetic device, disturbed, timed at these sizes and fitted."""
    device = SyntheticDevice(seed)

    def surface(quantity: Quantity) -> Surface:
        return fit_surface(quantity, _timed(device, quantity, sizes))

    costs = DrafterCosts(
        digest="0",
        kind="ngram",
        draft_step=surface("draft_step"),
        draft_catchup=surface("draft_catchup"),
    )
    made = {x: surface(x) for x in ("verify", "plain_decode", "round_overhead")}
    return true_profile().model_copy(update={"drafters": {"ngram": costs}, **made})


def _timed(
    device: SyntheticDevice, quantity: Quantity, sizes: tuple[int, ...]
) -> dict[tuple[int, int, int], Summary]:
    points = {}
    contexts = CONTEXTS if AXES[quantity].context else CONTEXTS[:1]
    for batch, context in product(BATCHES, contexts):
        dense = quantity == "verify" and batch == 1 and context == CONTEXTS[0]
        few = {batch * x for x in (1, 2, 4, 8)} | {64, 256}
        own = {batch} if quantity == "plain_decode" else set(sizes) if dense else few
        for size in sorted(x for x in own if x >= batch):
            points[batch, size, context] = _settled(device, Point(quantity, batch, size, context))
    return points


def _settled(device: SyntheticDevice, point: Point) -> Summary:
    """Timed until the interval is small: a spike or two must not widen it."""
    sample = device.sampler(point)
    samples = [sample() for _ in range(9)]
    while (found := summarise(samples)).ci_half_width > 0.01 * found.median:
        samples += [sample() for _ in range(3)]
    return found


def hinged(profile: Profile) -> Profile:
    """The same with the roofline of each verify curve instead of its knots."""
    curves = []
    for curve in profile.verify.curves:
        assert curve.roofline is not None
        seconds = roofline_seconds(curve.roofline, np.array([x.size for x in curve.knots]))
        knots = [
            x.model_copy(update={"seconds": float(y)})
            for x, y in zip(curve.knots, seconds, strict=True)
        ]
        curves.append(curve.model_copy(update={"knots": knots}))
    verify = profile.verify.model_copy(update={"anchors": [], "curves": curves})
    return profile.model_copy(update={"verify": verify})


def test_trees_chosen_by_pairs_at_boundaries_lose_next_to_nothing() -> None:
    found = [y for x in range(SEEDS) for y in regrets(measured_profile(x, PAIRED), true_profile())]
    assert np.mean(found) <= 0.3
    assert max(found) <= 2.0


def test_trees_chosen_by_a_hinge_through_powers_of_two_lose_more() -> None:
    """Negative control: the bar can be missed."""
    found = [
        y
        for x in range(SEEDS)
        for y in regrets(hinged(measured_profile(x, POWERS)), true_profile())
    ]
    assert np.mean(found) > 0.3
    assert max(found) > 2.0


def test_what_the_noise_leaves_open_is_about_what_it_costs() -> None:
    """The estimate and the true regret, where interpolation adds nothing to it."""
    noisy = measured_profile(0, PAIRED)
    found = estimated_regret(noisy)
    true = regrets(noisy, true_profile())
    assert found is not None
    assert found.mean_pct == pytest.approx(float(np.mean(true)), abs=0.2)

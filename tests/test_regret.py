from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product

import numpy as np
import pytest

from smartprof.calibrate.fit import fit_surface, roofline_seconds
from smartprof.calibrate.judge import judge
from smartprof.calibrate.measure import measure
from smartprof.calibrate.plan import Point, make_plan
from smartprof.calibrate.quality import with_regret
from smartprof.models.shapes import named_shape
from smartprof.planning.decisions import CURVES, compare_decisions
from smartprof.planning.regret import REFITS, estimated_regret
from smartprof.planning.sources.table import read_acceptance
from smartprof.profile.cost import CostModel
from smartprof.profile.refits import refitted
from smartprof.profile.schema import AXES, Curve, DrafterCosts, Profile, Quantity, Surface
from smartprof.stats import Summary, summarise
from tests.profiles import make_profile
from tests.synthetic_device import TILES, SyntheticDevice, true_free_tokens, truth

ACCEPTANCES = [read_acceptance(x) for x in CURVES]
BATCHES, CONTEXTS = (1, 4, 16), (64, 1024)
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


@cache
def calibrated(seed: int) -> Profile:
    """The synthetic device, disturbed, as a quick calibration finds it."""
    shape = named_shape("SmolLM2-135M")
    plan = make_plan("quick", shape, 1 << 50, 4, 8192, ("ngram",), tiles=TILES)
    device = SyntheticDevice(seed)
    found = measure(plan, plan.mode.budget_seconds, device, [], lambda _: None)
    assert len(found.fitted) <= 60
    return _profile(found.surface).model_copy(update={"quality": judge(found, 1.0, [])})


@cache
def by_powers(seed: int) -> Profile:
    """The same from plain powers of two, by the roofline that is fitted through each curve."""
    device = SyntheticDevice(seed)

    def surface(quantity: Quantity, source: str = "") -> Surface:
        return fit_surface(quantity, _timed(device, quantity))

    made = _profile(surface)
    curves = [_hinged(x) for x in made.verify.curves]
    verify = made.verify.model_copy(update={"anchors": [], "curves": curves})
    return made.model_copy(update={"verify": verify})


def _profile(surface: Callable[[Quantity, str], Surface]) -> Profile:
    costs = DrafterCosts(
        digest="0",
        kind="ngram",
        draft_step=surface("draft_step", "ngram"),
        draft_catchup=surface("draft_catchup", "ngram"),
    )
    names: tuple[Quantity, ...] = ("verify", "plain_decode", "round_overhead")
    made = {x: surface(x, "") for x in names}
    return true_profile().model_copy(update={"drafters": {"ngram": costs}, **made})


def _timed(device: SyntheticDevice, quantity: Quantity) -> dict[tuple[int, int, int], Summary]:
    points = {}
    contexts = CONTEXTS if AXES[quantity].context else CONTEXTS[:1]
    for batch, context in product(BATCHES, contexts):
        for size in (x for x in POWERS if x >= batch):
            if quantity != "plain_decode" or size == batch:
                sample = device.sampler(Point(quantity, batch, size, context))
                points[batch, size, context] = summarise([sample() for _ in range(25)])
    return points


def _hinged(curve: Curve) -> Curve:
    """With seconds of its roofline at its knots, and the free tokens that follow."""
    assert curve.roofline is not None
    sizes = np.array([x.size for x in curve.knots], float)
    seconds = roofline_seconds(curve.roofline, sizes)
    knots = [
        x.model_copy(update={"seconds": float(y)})
        for x, y in zip(curve.knots, seconds, strict=True)
    ]
    return curve.model_copy(update={"knots": knots})


def knees_within(profile: Profile) -> list[bool]:
    """Of both knees of every verify curve: whether the true one lies within the interval."""
    held = []
    for curve in profile.verify.curves:
        pairs = ((0.10, curve.free_tokens_10_interval), (0.50, curve.free_tokens_50_interval))
        for surcharge, interval in pairs:
            low, high = (1000 if x is None else x for x in interval or (0, 0))
            true = true_free_tokens(surcharge, curve.batch or 1, curve.context or 0)
            held.append(low <= true <= high)
    return held


def test_a_quick_calibration_loses_next_to_nothing() -> None:
    found = [y for x in range(SEEDS) for y in regrets(calibrated(x), true_profile())]
    assert np.mean(found) <= 0.3
    assert max(found) <= 2.0


def test_a_quick_calibration_knows_how_sure_its_knees_are() -> None:
    assert np.mean([knees_within(calibrated(x)) for x in range(SEEDS)]) >= 0.9


def test_a_hinge_through_powers_of_two_loses_more() -> None:
    """Negative control: the bars can be missed."""
    found = [y for x in range(SEEDS) for y in regrets(by_powers(x), true_profile())]
    assert np.mean(found) > 0.3
    assert max(found) > 2.0


@pytest.mark.long
def test_over_fifty_seeds_the_bars_hold_for_nine_in_ten() -> None:
    profiles = [calibrated(x) for x in range(50)]
    found = np.array([regrets(x, true_profile()) for x in profiles])  # [seeds, decisions]
    assert found.mean() <= 0.3
    assert np.mean(found.max(axis=1) <= 2.0) >= 0.9
    held = np.array([knees_within(x) for x in profiles])  # [seeds, knees]
    assert held.mean(axis=0).min() >= 0.9


def test_the_estimate_of_a_calibration_is_as_small_as_the_regret() -> None:
    """Up to a factor of ten: ten held-out points know the error of interpolation roughly."""
    estimates = [estimated_regret(calibrated(x)) for x in range(SEEDS)]
    true = [np.mean(regrets(calibrated(x), true_profile())) for x in range(SEEDS)]
    mean = np.mean([x.mean_pct for x in estimates if x])
    assert 0.1 < mean / np.mean(true) < 10

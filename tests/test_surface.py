from __future__ import annotations

import math
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from smartprof.errors import DomainError
from smartprof.profile.schema import Anchor, Curve, Surface
from smartprof.profile.surface import SurfaceEvaluator
from tests.profiles import make_profile, make_surface

BATCHES, CONTEXTS, SIZES = (1, 2, 5, 8), (0, 100, 700), (1, 2, 4, 8, 9, 33, 64)


def _noise(seed: int, low: float = -3.0, high: float = 0.0) -> Surface:
    """A verify surface of unrelated values: no rule is right by accident."""
    dice = Random(seed)
    values: dict[tuple[int, int, int], float] = {}

    def seconds(batch: int, size: int, context: int) -> float:
        return values.setdefault((batch, size, context), 10 ** dice.uniform(low, high))

    return make_surface("verify", seconds, BATCHES, CONTEXTS, SIZES)


def _ragged(seed: int) -> Surface:
    """As `_noise`, with curves that end at different sizes."""
    dice = Random(seed)
    surface = _noise(seed)
    curves = []
    for curve in surface.curves:
        kept = max(1, len(curve.knots) - dice.randrange(3))
        curves.append(curve.model_copy(update={"knots": curve.knots[:kept]}))
    return surface.model_copy(update={"curves": curves, "anchors": []})


# The rule a second time: scalars, plain Python, one query at a time, straight from the text.


def _curve_seconds(curves: dict[int, Curve], batch: int, size: float) -> float:
    """curves: those of one context, by batch."""
    knots = curves[batch].knots
    first, last = knots[0], knots[-1]
    if size > last.size:
        return last.seconds / last.size * size
    if size < first.size:
        smaller = [x for x in curves if x < batch]
        if not smaller:
            return first.seconds
        lower = max(smaller)
        scale = _curve_seconds(curves, lower, size) / _curve_seconds(curves, lower, first.size)
        return first.seconds * min(max(scale, size / first.size), 1.0)
    for left, right in pairwise(knots):
        if size < right.size:
            share = (size - left.size) / (right.size - left.size)
            return left.seconds + share * (right.seconds - left.seconds)
    return last.seconds


def _along(values: dict[int, float], position: float) -> float:
    """Linear through {position: value}; held below, never falling above."""
    known = sorted(values)
    if position <= known[0]:
        return values[known[0]]
    if position > known[-1]:
        if len(known) == 1:
            return values[known[-1]]
        rise = (values[known[-1]] - values[known[-2]]) / (known[-1] - known[-2])
        return values[known[-1]] + max(rise, 0.0) * (position - known[-1])
    right = min(x for x in known if x >= position)
    if right == position:
        return values[right]
    left = max(x for x in known if x < position)
    share = (position - left) / (right - left)
    return values[left] + share * (values[right] - values[left])


def _scalar_seconds(surface: Surface, batch: float, size: float, context: float) -> float:
    by_context: dict[int, dict[int, Curve]] = {}
    for curve in surface.curves:
        by_context.setdefault(curve.context or 0, {})[curve.batch or 0] = curve
    if surface.size_axis == "batch":
        rows = {
            x: _along({k.size: k.seconds for k in y[0].knots}, size) for x, y in by_context.items()
        }
        return _along(rows, context)
    return _along(
        {
            place: _along({x: _curve_seconds(curves, x, size) for x in curves}, batch)
            for place, curves in by_context.items()
        },
        context,
    )


def _queries(dice: Random, count: int) -> list[tuple[int, list[int], float]]:
    """Inside the domain and up to two octaves around it."""
    found = []
    for _ in range(count):
        batch = dice.choice([*BATCHES, *range(1, 33)])
        sizes = [dice.choice([*SIZES, dice.randint(1, 256)]) for _ in range(dice.randint(1, 40))]
        context = dice.choice([*CONTEXTS, dice.uniform(0, 700), dice.uniform(700, 2800)])
        found.append((batch, sizes, context))
    return found


@pytest.mark.parametrize("make", [_noise, _ragged])
@pytest.mark.parametrize("seed", range(4))
def test_the_rule_agrees_with_a_scalar_second_implementation(make: object, seed: int) -> None:
    assert callable(make)
    surface = make(seed)
    evaluator = SurfaceEvaluator(surface)
    for batch, sizes, context in _queries(Random(seed), 150):
        found = evaluator.seconds(batch, sizes, context)
        expected = [_scalar_seconds(surface, batch, x, context) for x in sizes]
        np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_surfaces_without_batch_or_context_follow_the_same_rule() -> None:
    profile = make_profile(
        lambda batch, size, context: 0.01 + batch * 1e-3 + context * 1e-5,
        overhead=lambda batch, size, context: 1e-3 * batch + 1e-4 * size,
    )
    plain = SurfaceEvaluator(profile.plain_decode)
    overhead = SurfaceEvaluator(profile.round_overhead)
    for surface, evaluator in (
        (profile.plain_decode, plain),
        (profile.round_overhead, overhead),
    ):
        for size in (1, 3, 8, 11, 30):
            for batch, context in ((1, 64.0), (3, 100.5), (9, 2000.0)):
                expected = _scalar_seconds(surface, batch, size, context)
                found = evaluator.seconds(batch, [size], context)
                assert found[0] == pytest.approx(expected, rel=1e-12)
    assert plain.seconds(None, [4], 64)[0] == profile.plain_decode.curves[0].knots[2].seconds
    assert overhead.seconds(4, [4], None)[0] == pytest.approx(1e-3 * 4 + 1e-4 * 4)


def test_every_anchor_comes_back_bit_for_bit_and_is_called_exact() -> None:
    surface = _noise(7, -12, 5)
    evaluator = SurfaceEvaluator(surface)
    for curve in surface.curves:
        sizes = [x.size for x in curve.knots]
        found = evaluator.seconds(curve.batch, sizes, curve.context)
        assert found.tolist() == [x.seconds for x in curve.knots]
        for size in sizes:
            assert evaluator.tier(curve.batch, size, curve.context) == "exact"


def test_a_linear_truth_is_met_everywhere_inside() -> None:
    def truth(batch: float, size: float, context: float) -> float:
        return 0.01 + 1e-4 * size + 1e-3 * batch + 1e-6 * context

    evaluator = SurfaceEvaluator(make_surface("verify", truth, BATCHES, CONTEXTS, SIZES))
    for batch, context in ((1, 50.5), (2, 399.0), (3, 100.0), (7, 700.0)):
        sizes = range(8, 65)
        expected = [truth(batch, x, context) for x in sizes]
        np.testing.assert_allclose(evaluator.seconds(batch, sizes, context), expected)


def test_beyond_the_largest_batch_plain_rounds_and_verify_passes_go_on_alike() -> None:
    """Else speculation would look better there than anything measured says."""
    rising = make_profile(
        lambda batch, size, context: 0.01 + 2e-3 * batch, overhead=lambda batch, size, context: 1e-3
    )
    plain, verify = SurfaceEvaluator(rising.plain_decode), SurfaceEvaluator(rising.verify)
    for batch in (8, 11, 20, 32):
        of_plain = plain.seconds(None, [batch], 64)[0]
        assert of_plain == pytest.approx(1e-3 + 0.01 + 2e-3 * batch)
        assert verify.seconds(batch, [batch], 64)[0] + 1e-3 == pytest.approx(of_plain)


def test_fewer_tokens_than_a_larger_batch_follow_the_smaller_batch_within_bounds() -> None:
    def truth(batch: int, size: int, context: int) -> float:
        return 0.01 + 0.002 * size + 0.001 * batch

    surface = make_surface("verify", truth, (1, 8), (100,), (1, 2, 4, 8, 16))
    evaluator = SurfaceEvaluator(surface)
    first, lower = truth(8, 8, 100), truth(1, 8, 100)
    at_four = first * truth(1, 4, 100) / lower
    assert evaluator.seconds(8, [4], 100)[0] == pytest.approx(at_four)
    assert evaluator.seconds(4, [4], 100)[0] == pytest.approx(
        truth(1, 4, 100) * 4 / 7 + at_four * 3 / 7
    )


def test_a_steep_lower_curve_cannot_drag_a_larger_batch_beyond_its_bounds() -> None:
    rising = make_surface(
        "verify", lambda b, s, c: 1e-12 if b == 1 and s == 1 else 1.0, (1, 8), (0,), (1, 8)
    )
    falling = make_surface(
        "verify", lambda b, s, c: 1e-12 if b == 1 and s == 8 else 1.0, (1, 8), (0,), (1, 8)
    )
    assert SurfaceEvaluator(rising).seconds(8, [1], 0)[0] == pytest.approx(1 / 8)
    assert SurfaceEvaluator(falling).seconds(8, [1], 0)[0] == 1.0


def test_above_the_last_size_seconds_per_token_are_held() -> None:
    evaluator = SurfaceEvaluator(make_profile().verify)
    edge = evaluator.seconds(4, [128], 256)[0]
    found = evaluator.seconds(4, [256, 512], 256)
    np.testing.assert_allclose(found, [2 * edge, 4 * edge])


def test_beyond_the_largest_batch_and_context_seconds_never_fall() -> None:
    falling = make_surface("verify", lambda b, s, c: 1.0 / (b + c + 1), BATCHES, CONTEXTS, SIZES)
    evaluator = SurfaceEvaluator(falling)
    assert evaluator.seconds(32, [64], 700)[0] == evaluator.seconds(8, [64], 700)[0]
    assert evaluator.seconds(8, [64], 2800)[0] == evaluator.seconds(8, [64], 700)[0]


def test_below_the_smallest_context_seconds_are_held_however_far() -> None:
    evaluator = SurfaceEvaluator(make_profile(contexts=(256, 1024)).verify)
    assert evaluator.seconds(4, [16], 0)[0] == evaluator.seconds(4, [16], 256)[0]
    assert evaluator.tier(4, 16, 0) == "extrapolated"


@pytest.mark.parametrize(
    ("batch", "size", "context", "tier"),
    [
        (4, 16, 256, "exact"),
        (4, 18, 256, "interpolated"),
        (3, 16, 256, "interpolated"),
        (4, 16, 256.5, "interpolated"),
        (3, 3, 300, "interpolated"),
        (4, 2, 256, "extrapolated"),
        (4, 129, 256, "extrapolated"),
        (9, 16, 256, "extrapolated"),
        (4, 16, 63.5, "extrapolated"),
        (4, 16, 1025, "extrapolated"),
    ],
)
def test_the_tier_tells_how_a_number_was_found(
    batch: int, size: int, context: float, tier: str
) -> None:
    assert SurfaceEvaluator(make_profile().verify).tier(batch, size, context) == tier


def test_a_knot_that_was_not_measured_is_not_exact() -> None:
    surface = make_profile().verify
    anchors: list[Anchor] = [x for x in surface.anchors if x.size != 16]
    evaluator = SurfaceEvaluator(surface.model_copy(update={"anchors": anchors}))
    assert evaluator.tier(4, 16, 256) == "interpolated"


def test_a_size_that_only_some_of_the_curves_read_have_is_extrapolated() -> None:
    surface = _ragged(1)
    ends = {(x.batch, x.context): x.knots[-1].size for x in surface.curves}
    evaluator = SurfaceEvaluator(surface)
    for (batch, context), last in ends.items():
        if last < surface.domain.size[1]:
            assert evaluator.tier(batch, last + 1, context) == "extrapolated"


@pytest.mark.parametrize(
    ("batch", "size", "context", "words"),
    [
        (33, 64, 256, "batch within 0.25 to 32 .*, got 33: calibrate with batch 9 or more"),
        (4, 513, 256, "tokens within 0.25 to 512 .*, got 513: calibrate with tokens 129 or more"),
        (4, 64, 4097, "context within 0 to 4096 .*, got 4097: calibrate with context 1025 or more"),
        (4, 64, -1, "got -1: ask for a positive number"),
        (0, 64, 256, "got 0: ask for a positive number"),
        (4, 0, 256, "got 0: ask for a positive number"),
        (4, math.nan, 256, "got nan: ask for a positive number"),
        (4, 64, math.inf, "got inf: ask for a positive number"),
        (None, 64, 256, "batch .*got none"),
        (4, 64, None, "context .*got none"),
    ],
)
def test_more_than_two_octaves_outside_is_refused_with_what_to_do(
    batch: int | None, size: float, context: float | None, words: str
) -> None:
    evaluator = SurfaceEvaluator(make_profile().verify, "verify")
    with pytest.raises(DomainError, match=f"verify: expected {words}|verify: .*{words}") as caught:
        evaluator.seconds(batch, [4, size, 8], context)
    assert "\n" not in str(caught.value)
    with pytest.raises(DomainError):
        evaluator.tier(batch, size, context)


def test_far_below_the_smallest_batch_and_size_is_refused() -> None:
    evaluator = SurfaceEvaluator(make_profile(batches=(16,), sizes=(16, 64)).verify)
    assert evaluator.seconds(4, [4], 64)[0] == evaluator.seconds(16, [16], 64)[0]
    with pytest.raises(DomainError, match="calibrate with batch 12 or less"):
        evaluator.seconds(3, [16], 64)
    with pytest.raises(DomainError, match="calibrate with tokens 12 or less"):
        evaluator.seconds(16, [3], 64)


def test_no_sizes_give_no_seconds() -> None:
    assert SurfaceEvaluator(make_profile().verify).seconds(4, [], 256).shape == (0,)


def test_half_widths_are_interpolated_inside_and_held_outside() -> None:
    surface = make_surface(
        "verify", lambda b, s, c: 0.1 * b, (1, 2), (0, 100), (1, 2, 4), half_width=0.1
    )
    evaluator = SurfaceEvaluator(surface)
    np.testing.assert_allclose(evaluator.half_widths(1, [1, 3, 16], 50), [0.01] * 3)
    np.testing.assert_allclose(evaluator.half_widths(8, [2], 400), [0.02])

from __future__ import annotations

from itertools import product

import pytest

from smartprof.calibrate.fit import fit_surface
from smartprof.calibrate.memory import predicted_bytes
from smartprof.calibrate.plan import MODES, QUANTITIES, Plan, Point, make_plan
from smartprof.drafters.ngram import NgramDrafter
from smartprof.errors import InputError
from smartprof.models.buckets import CAPTURE_SIZES
from smartprof.models.shapes import named_shape
from smartprof.stats import Summary

SMOL = named_shape("SmolLM2-135M")
LLAMA = named_shape("Llama-3.1-8B")
PLENTY = 1 << 50
GIB = 1 << 30


def plan_with(memory_bytes: int, mode: str = "quick", max_context: int = 8192) -> Plan:
    return make_plan(mode, SMOL, memory_bytes, 4, max_context, ("ngram",))


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_quick_mode_covers_what_it_promises() -> None:
    plan = plan_with(PLENTY)
    verify = [x for x in plan.fitted if x.quantity == "verify"]
    assert len({x.batch for x in verify}) >= 3
    assert len({x.size for x in verify if x.batch == 1}) >= 6
    assert max(x.size for x in verify) >= 256
    assert len({x.context for x in verify}) >= 2
    assert not plan.skipped
    assert plan.mode.budget_seconds <= 80
    assert set(plan.boundaries) >= {16, 32, 64, 128}


@pytest.mark.parametrize("sources", [("ngram",), ("ngram", "hybrid")])
@pytest.mark.parametrize("capture_sizes", [(), CAPTURE_SIZES])
def test_quick_mode_stays_within_sixty_shapes_and_ten_held_out(
    sources: tuple[str, ...], capture_sizes: tuple[int, ...]
) -> None:
    plan = make_plan("quick", SMOL, PLENTY, 4, 8192, sources, capture_sizes)
    assert len(plan.fitted) <= plan.mode.shapes == 60
    assert len(plan.held_out) == 10
    assert plan.fresh == ()


def test_full_mode_holds_forty_shapes_out_and_has_as_many_for_a_second_draw() -> None:
    plan = plan_with(PLENTY, "full")
    assert len(plan.held_out) == len(plan.fresh) == 40
    assert not {*plan.held_out, *plan.fitted} & {*plan.fresh}
    assert plan.mode.held_out_seconds > 0


def test_dense_mode_measures_every_tree_that_a_decision_is_likely_to_fall_on() -> None:
    plan = plan_with(PLENTY, "dense")
    verify = {x for x in plan.fitted if x.quantity == "verify"}
    for batch, context in product((1, 2, 4, 8, 16), (64, 1024)):
        sizes = {x.size for x in verify if (x.batch, x.context) == (batch, context)}
        assert {batch * x for x in range(1, 17)} <= sizes
    assert {x.size for x in verify if x.batch == 1 and x.context == 64} >= {*range(1, 65)}


@pytest.mark.parametrize("source", [NgramDrafter.name, "eagle3"])
@pytest.mark.parametrize("mode", MODES)
def test_what_policies_price_most_is_measured_at_every_batch_and_context(
    mode: str, source: str
) -> None:
    plan = make_plan(mode, SMOL, PLENTY, 4, 8192, (source,))
    batches = {x.batch for x in plan.fitted}
    contexts = {x.context for x in plan.fitted}
    searched = {max(contexts)} if source == NgramDrafter.name else contexts
    ends = {min(batches), max(batches)}
    curves = batches if mode != "quick" else {1, 2, 16}
    for quantity in QUANTITIES:
        places = {(x.batch, x.context) for x in plan.fitted if x.quantity == quantity}
        at = curves if quantity in ("verify", "plain_decode") else ends
        wanted = {"round_overhead": {64}, "draft_step": searched, "draft_catchup": searched}
        expected = set(product(at, wanted.get(quantity, contexts)))
        if quantity == "plain_decode":
            expected |= {(x, min(contexts)) for x in batches}
        assert places == expected, quantity


@pytest.mark.parametrize("mode", MODES)
def test_every_batch_has_its_first_speculated_token_measured(mode: str) -> None:
    plan = plan_with(PLENTY, mode)
    verify = [x for x in plan.fitted if x.quantity == "verify"]
    for batch in {x.batch for x in verify}:
        sizes = {x.size for x in verify if x.batch == batch}
        assert {batch, batch + 1} <= sizes


def test_the_sentinel_is_a_point_of_the_base_curve() -> None:
    plan = plan_with(PLENTY)
    assert plan.sentinel in plan.fitted
    assert (plan.sentinel.batch, plan.sentinel.context) == plan.base == (1, 64)


@pytest.mark.parametrize("mode", MODES)
def test_no_point_is_planned_twice(mode: str) -> None:
    plan = plan_with(PLENTY, mode)
    points = plan.fitted + plan.held_out
    assert len(set(points)) == len(points)


def test_a_pass_has_at_least_one_token_per_request_and_its_first_size_is_the_batch() -> None:
    plan = plan_with(PLENTY, "full")
    for quantity in ("verify", "draft_catchup", "round_overhead"):
        for batch in {x.batch for x in plan.fitted if x.quantity == quantity}:
            own = [x for x in plan.fitted if (x.quantity, x.batch) == (quantity, batch)]
            assert min(x.size for x in own) == batch


@pytest.mark.parametrize("mode", MODES)
def test_held_out_points_lie_inside_the_domain_and_are_never_fitted(mode: str) -> None:
    plan = plan_with(PLENTY, mode)
    assert len(plan.held_out) == plan.mode.held_out
    assert not set(plan.held_out) & set(plan.fitted)
    fitted = [x for x in plan.fitted if x.quantity == "verify"]
    batches, contexts = ({getattr(x, y) for x in fitted} for y in ("batch", "context"))
    for point in plan.held_out:
        assert point.quantity == "verify"
        assert min(batches) <= point.batch <= max(batches)
        assert min(contexts) <= point.context <= max(contexts)
        assert point.batch <= point.size <= plan.mode.top


def test_held_out_points_reach_batches_and_contexts_that_were_not_measured() -> None:
    plan = plan_with(PLENTY)
    assert {x.batch for x in plan.held_out} - {x.batch for x in plan.fitted}
    assert {x.context for x in plan.held_out} - {x.context for x in plan.fitted}
    assert len({x.size for x in plan.held_out}) >= 6


@pytest.mark.parametrize("mode", MODES)
def test_prices_reach_as_far_at_every_batch(mode: str) -> None:
    """Where one curve ends early, batches between it and the next have extrapolated prices."""
    plan = make_plan(mode, SMOL, PLENTY, 4, 8192, ("ngram", "hybrid"))
    drafting = list(product(("draft_step", "draft_catchup"), ("ngram", "hybrid")))
    for quantity, source in [("verify", ""), ("round_overhead", ""), *drafting]:
        own = [x for x in plan.fitted if (x.quantity, x.source) == (quantity, source)]
        seconds = {(x.batch, x.size, x.context): 1e-3 * (1 + x.size / 64) for x in own}
        surface = fit_surface(quantity, {x: Summary(y, 0.0, 0.0, 9) for x, y in seconds.items()})
        assert len({x.batch for x in surface.curves}) >= 2
        assert len({x.knots[-1].size for x in surface.curves}) == 1
        assert surface.curves[0].knots[-1].size >= 8 * max(x.batch or 1 for x in surface.curves)


def test_the_same_question_gives_the_same_plan() -> None:
    assert plan_with(PLENTY, "full") == plan_with(PLENTY, "full")


def test_less_memory_leaves_out_the_largest_batches_and_says_so() -> None:
    largest = predicted_bytes(SMOL, batch=16, size=256, context=64, element_bytes=4)
    plan = plan_with(largest - 1)
    assert 16 not in {x.batch for x in plan.fitted}
    assert any("batch 16" in x and "memory" in x for x in plan.skipped)


def test_a_context_gives_way_before_fewer_than_three_batches_are_left() -> None:
    needed = predicted_bytes(SMOL, batch=4, size=256, context=64, element_bytes=4)
    plan = plan_with(needed)
    assert {x.batch for x in plan.fitted} == {1, 2, 4}
    assert {x.context for x in plan.fitted} == {64}
    assert any("context 1024" in x and "memory" in x for x in plan.skipped)


def test_whole_batches_and_contexts_are_left_out_so_that_the_product_stays_full() -> None:
    for mebibytes in (40, 60, 100, 200, 400, 800, 1600):
        try:
            plan = plan_with(mebibytes << 20, "full")
        except InputError:
            continue
        verify = [x for x in plan.fitted if x.quantity == "verify"]
        places = {(x.batch, x.context) for x in verify}
        assert places == set(product({x for x, _ in places}, {y for _, y in places}))


def test_where_passes_are_captured_the_base_curve_has_both_sides_of_their_sizes() -> None:
    sizes = [1, 2, 4, 8, 16, 56, 64, 512]
    captured = make_plan("quick", SMOL, PLENTY, 4, 8192, ("ngram",), sizes)
    base = {x.size for x in captured.fitted if (x.quantity, *captured.base) == at(x)}
    assert {x + 1 for x in (16, 64)} <= base
    assert captured.boundaries == (1, 2, 4, 8, 16, 56, 64)


@pytest.mark.parametrize("tiles", [(16,), (64, 128)])
def test_where_none_are_captured_the_base_curve_has_both_sides_of_the_tiles(
    tiles: tuple[int, ...],
) -> None:
    plan = make_plan("quick", SMOL, PLENTY, 4, 8192, ("ngram",), tiles=tiles)
    base = {x.size for x in plan.fitted if (x.quantity, *plan.base) == at(x)}
    assert {y for x in tiles for y in (x, x + 1)} <= base


def at(point: Point) -> tuple[str, int, int]:
    return point.quantity, point.batch, point.context


def test_no_planned_pass_is_predicted_to_exceed_the_memory() -> None:
    for gibibytes in (0.3, 1, 4, 16):
        memory = int(gibibytes * GIB)
        plan = plan_with(memory)
        points = [x for x in plan.fitted + plan.held_out if x.quantity == "verify"]
        assert max(predicted_bytes(SMOL, x.batch, x.size, x.context, 4) for x in points) <= memory


def test_a_short_model_leaves_out_contexts_that_it_cannot_hold() -> None:
    plan = plan_with(PLENTY, max_context=512)
    assert {x.context for x in plan.fitted} == {64}
    assert plan.skipped == ("context 1024: the model ends at 512",)
    assert plan.capacity <= 512


def test_when_nothing_fits_the_error_is_one_line_about_memory() -> None:
    with pytest.raises(InputError) as error:
        make_plan("quick", LLAMA, 1 << 20, 2, 131_072, ("ngram",))
    assert "fits in" in one_line(error)


def test_a_model_too_short_for_any_pass_is_not_called_a_lack_of_memory() -> None:
    with pytest.raises(InputError) as error:
        plan_with(PLENTY, max_context=200)
    text = one_line(error)
    assert "200" in text
    assert "GiB" not in text


def test_an_unknown_mode_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError) as error:
        plan_with(PLENTY, "slow")
    assert one_line(error) == "expected --mode quick, full or dense, got 'slow'"


def test_predicted_memory_is_at_least_the_cache_and_grows_along_every_axis() -> None:
    bytes_here = predicted_bytes(SMOL, batch=4, size=64, context=512, element_bytes=4)
    assert bytes_here >= 4 * (512 + 16) * SMOL.kv_bytes_per_token(4)
    for batch, size, context in ((8, 64, 512), (4, 128, 512), (4, 64, 1024)):
        assert predicted_bytes(SMOL, batch, size, context, 4) > bytes_here
    assert predicted_bytes(SMOL, 4, 64, 512, 2) < bytes_here


def test_the_cache_of_a_plan_holds_every_one_of_its_passes() -> None:
    plan = plan_with(PLENTY, "full")
    assert plan.batch == 16
    for point in plan.fitted + plan.held_out:
        own = -(-point.size // point.batch) if point.quantity == "verify" else 64
        assert point.context + own <= plan.capacity

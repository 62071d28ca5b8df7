"""What a plan will take, said beforehand: rough, but never of another plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smartprof.calibrate.forecast import RATES, Rates, forecast, pass_seconds
from smartprof.calibrate.memory import predicted_bytes
from smartprof.calibrate.plan import MODES, Point, make_plan
from smartprof.models.shapes import named_shape
from smartprof.report.forecast_table import forecast_lines

SHAPE = named_shape("SmolLM2-135M")


@pytest.mark.parametrize("mode", MODES)
def test_every_planned_shape_has_a_line_and_no_other_has(mode: str) -> None:
    plan = make_plan(mode, SHAPE, 1 << 50, 4, 8192, ("ngram", "hybrid"))
    rows = forecast(plan, SHAPE, 4, RATES["cpu"])
    assert [x.point for x in rows] == [*plan.fitted, *plan.held_out, *plan.fresh]
    uses = {x.use for x in rows}
    assert uses == {"fit", "held out"} | ({"second draw"} if plan.fresh else set())
    assert all(x.measuring_seconds > x.seconds > 0 for x in rows)
    assert all(x.memory_bytes > 0 for x in rows)
    lines = forecast_lines(plan, rows, 60.0)
    assert "60 s" in lines[1]


def test_a_pass_takes_reading_its_weights_and_computing_its_tokens() -> None:
    point = Point("verify", 1, 8, 64)
    reading = pass_seconds(SHAPE, point, 4, Rates(1e9, 1e30))
    assert reading == pytest.approx(SHAPE.weight_bytes(4) / 1e9, rel=0.05)
    computing = pass_seconds(SHAPE, point, 4, Rates(1e30, 1e9))
    assert computing == pytest.approx(8 * SHAPE.flops_per_token(64) / 1e9)


def test_more_of_anything_takes_longer() -> None:
    point = Point("verify", 4, 32, 256)
    here = pass_seconds(SHAPE, point, 4, RATES["cpu"])
    for more in (
        replace(point, batch=8),
        replace(point, size=64),
        replace(point, context=1024),
    ):
        assert pass_seconds(SHAPE, more, 4, RATES["cpu"]) > here


def test_memory_is_that_by_which_the_plan_decides() -> None:
    plan = make_plan("quick", SHAPE, 1 << 50, 4, 8192, ("ngram",))
    for row in forecast(plan, SHAPE, 4, RATES["cpu"]):
        if row.point.quantity == "verify":
            at = row.point
            assert row.memory_bytes == predicted_bytes(SHAPE, at.batch, at.size, at.context, 4)

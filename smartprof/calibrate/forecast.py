"""What a plan will take, said before anything runs: rough, from sizes and stated rates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from smartprof.calibrate.memory import predicted_bytes
from smartprof.calibrate.plan import Plan, Point
from smartprof.calibrate.schedule import WARM_SECONDS, least_samples, visit_seconds, visits_of
from smartprof.models.shapes import ModelShape


@dataclass(frozen=True)
class Rates:
    """Bytes moved and floating-point operations per second."""

    bytes_per_second: float
    flops_per_second: float


# Of a small CPU and of a large GPU: to tell minutes from hours. Nothing is decided by them.
RATES = {"cpu": Rates(20e9, 150e9), "cuda": Rates(2e12, 200e12)}


@dataclass(frozen=True)
class Forecast:
    """One shape: seconds of a run, of all its visits, and memory beyond the weights.

    use: "fit", "held out", or "second draw" (measured only if the first one fails).
    """

    point: Point
    use: Literal["fit", "held out", "second draw"]
    seconds: float
    measuring_seconds: float
    memory_bytes: int


def forecast(plan: Plan, shape: ModelShape, element_bytes: int, rates: Rates) -> list[Forecast]:
    """Every shape that is planned; those that refine a curve are chosen while measuring."""
    found = []
    for points, use in (
        (plan.fitted, "fit"),
        (plan.held_out, "held out"),
        (plan.fresh, "second draw"),
    ):
        found += [_forecast(x, use, shape, element_bytes, rates) for x in points]  # type: ignore[arg-type]
    return found


def pass_seconds(shape: ModelShape, point: Point, element_bytes: int, rates: Rates) -> float:
    """Seconds of one target pass: reading weights and cache, and computing, one after the other."""
    slots = point.batch * (point.context + point.size / point.batch)
    moved = shape.weight_bytes(element_bytes) + slots * shape.kv_bytes_per_token(element_bytes)
    computed = point.size * shape.flops_per_token(point.context)
    return moved / rates.bytes_per_second + computed / rates.flops_per_second


def _forecast(
    point: Point,
    use: Literal["fit", "held out", "second draw"],
    shape: ModelShape,
    element_bytes: int,
    rates: Rates,
) -> Forecast:
    run = _pass_of(point)
    seconds = pass_seconds(shape, run, element_bytes, rates)
    visit = max(visit_seconds(point), least_samples(point) * seconds)
    return Forecast(
        point=point,
        use=use,
        seconds=seconds,
        measuring_seconds=visits_of(point) * visit + max(WARM_SECONDS, seconds),
        memory_bytes=predicted_bytes(shape, run.batch, run.size, run.context, element_bytes),
    )


def _pass_of(point: Point) -> Point:
    """The pass of the target that a run of the point has: drafting is timed after a short one."""
    if point.quantity.startswith("draft"):
        return replace(point, quantity="verify", size=point.batch)
    return replace(point, quantity="verify")

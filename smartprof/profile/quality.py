"""How good a profile is, as its file says it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from smartprof.profile.part import Part as _Part
from smartprof.profile.scalars import Count, Name, Percent, Quantity, Remark, Seconds, Tally


class ErrorSummary(_Part):
    """Errors of predictions in percent of the measured seconds; null only without points."""

    count: Tally
    mean_abs_pct: Percent | None
    median_abs_pct: Percent | None
    p95_abs_pct: Percent | None
    max_abs_pct: Percent | None
    bias_pct: Annotated[float, Field(ge=-1e12, le=1e12)] | None

    @model_validator(mode="after")
    def _null_without_points(self) -> ErrorSummary:
        values = [y for x, y in self if x != "count"]
        if (self.count > 0 and None in values) or (self.count == 0 and set(values) != {None}):
            expected = "numbers" if self.count else "nulls"
            raise ValueError(f"expected {expected} for a count of {self.count}")
        return self


NO_ERRORS = ErrorSummary(
    count=0,
    mean_abs_pct=None,
    median_abs_pct=None,
    p95_abs_pct=None,
    max_abs_pct=None,
    bias_pct=None,
)


class HeldOutPoint(_Part):
    """A point that never entered the fit; context is that of the measurement."""

    quantity: Quantity
    batch: Count
    size: Count
    context: Tally
    measured_seconds: Seconds
    predicted_seconds: Seconds
    samples: Count


class HeldOutSet(_Part):
    """Points that never entered a fit, with the errors of its predictions."""

    errors: ErrorSummary
    points: list[HeldOutPoint]

    @model_validator(mode="after")
    def _all_counted(self) -> HeldOutSet:
        if self.errors.count != len(self.points):
            raise ValueError(f"expected errors of {len(self.points)} points, got {self.errors}")
        return self


class Repeatability(_Part):
    """Difference of two whole sweeps: of the medians of each shape, in percent of their mean."""

    shapes: Count
    median_pct: Percent
    p95_pct: Percent
    max_pct: Percent


class DecisionRegret(_Part):
    """Speed lost by choosing with this profile, in percent of the best choice's tokens per second.

    An estimate: each refit, drawn anew within intervals and held-out errors, once takes the place
    of the truth. acceptance: the assumed rates, as text (ranks by +, depths by /). decisions:
    refits x drafters x rates x batches x contexts.
    """

    mean_pct: Percent
    p95_pct: Percent
    max_pct: Percent
    refits: Count
    decisions: Count
    acceptance: Annotated[list[Name], Field(min_length=1)]
    batches: Annotated[list[Count], Field(min_length=1)]
    contexts: Annotated[list[Tally], Field(min_length=1)]


class Quality(_Part):
    """How good the profile is, and what it took. Null where nothing was measured.

    first_draw: where `held_out` is a second set, drawn after a first one failed and shapes were
    added: that first set, by the same fit. outliers: samples marked as such, and kept. drifts:
    times that the device's pace strayed while measuring, which was made up for.
    """

    held_out: ErrorSummary
    strata: dict[Name, ErrorSummary]
    points: list[HeldOutPoint]
    first_draw: HeldOutSet | None
    noise_floor_pct: Percent | None
    repeatability: Repeatability | None
    regret: DecisionRegret | None
    outliers: Tally | None
    drifts: Tally | None
    wall_seconds: Annotated[float, Field(ge=0, le=1e9)] | None
    shapes: Tally
    forwards: Tally
    warnings: list[Remark]


UNMEASURED = Quality(
    held_out=NO_ERRORS,
    strata={},
    points=[],
    first_draw=None,
    noise_floor_pct=None,
    repeatability=None,
    regret=None,
    outliers=None,
    drifts=None,
    wall_seconds=None,
    shapes=0,
    forwards=0,
    warnings=[],
)

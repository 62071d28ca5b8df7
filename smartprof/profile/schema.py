"""The profile file format, and the only place that says what a valid profile is.

Loading, checksums and errors for people are elsewhere; this module knows no files.

History of the format (`schema_version`; integers, never reused):

1   First version. Five quantities as surfaces of anchors and knots, key, provenance, quality;
    `acceptance` is reserved and always null.
2   Intervals of free tokens per curve. In `quality`: a first held-out draw that failed,
    repeatability, decision regret, counts of outliers and drifts. Seconds follow as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from smartprof.profile.part import Part as _Part
from smartprof.profile.part import require_utc
from smartprof.profile.quality import ErrorSummary as ErrorSummary
from smartprof.profile.quality import HeldOutPoint as HeldOutPoint
from smartprof.profile.quality import Quality as Quality
from smartprof.profile.scalars import (
    MOST_COUNT,
    Bytes,
    Count,
    CountRange,
    Dtype,
    Execution,
    FreeRange,
    Name,
    Quantity,
    Remark,
    Seconds,
    SizeAxis,
    Slope,
    Tally,
    TallyRange,
    Width,
)

SCHEMA_VERSION: Final = 2

Place = tuple[int | None, int | None]  # batch and context of a curve; None: no such axis


@dataclass(frozen=True)
class Axes:
    """Which axes a quantity has, and where its curves begin.

    first_size: "batch" (exactly one token per request), "batch or more", or "any".
    """

    size: SizeAxis
    batch: bool
    context: bool
    first_size: Literal["batch", "batch or more", "any"]


AXES: dict[Quantity, Axes] = {
    "verify": Axes("tokens", True, True, "batch"),
    "plain_decode": Axes("batch", False, True, "any"),
    "round_overhead": Axes("tokens", True, False, "batch or more"),
    "draft_step": Axes("rows", True, True, "any"),
    "draft_catchup": Axes("accepted", True, True, "batch"),
}


class DeviceKey(_Part):
    """The device measured. Null: the device has no such property, or does not tell."""

    kind: Literal["cpu", "cuda"]
    name: Name
    uuid_digest: Name | None
    memory_bytes: Bytes
    capability: Name | None
    driver: Name | None
    threads: Count | None


class SoftwareKey(_Part):
    """Versions of what ran the measurement."""

    python: Name
    torch: Name
    smartprof: Name
    cuda: Name | None


class ModelKey(_Part):
    """The target measured; `digest` identifies its shape, whatever its name."""

    name: Name
    digest: Name
    parameters: Annotated[int, Field(strict=True, ge=1, le=10**15)]


class Key(_Part):
    """What the profile is valid for. `keys.py` says what a difference in each field does."""

    device: DeviceKey
    software: SoftwareKey
    target: ModelKey
    dtype: Dtype
    execution: Execution
    capture_sizes: list[Count]

    @field_validator("capture_sizes")
    @classmethod
    def _increasing(cls, sizes: list[int]) -> list[int]:
        return _require_increasing(sizes, "capture sizes")


class Provenance(_Part):
    """Where the seconds come from: measured here, imported points, or a data sheet."""

    kind: Literal["measured", "imported", "analytic"]
    command: Remark
    note: Remark


class Anchor(_Part):
    """One measured point: median seconds, spread (MAD), 95 % half-width of the median."""

    batch: Count | None
    context: Tally | None
    size: Count
    seconds: Seconds
    spread: Width
    ci_half_width: Width
    samples: Count


class Knot(_Part):
    """A corner of a piecewise-linear curve."""

    size: Count
    seconds: Seconds
    ci_half_width: Width


class Roofline(_Part):
    """The fitted skeleton: floor + slope_below * min(size, knee) + slope_above * excess.

    Slopes in seconds per unit of size; explains and draws, never decides.
    """

    floor_seconds: Width
    slope_below: Slope
    slope_above: Slope
    knee: Annotated[float, Field(gt=0, le=MOST_COUNT)]


class Curve(_Part):
    """Seconds against size at one batch and context.

    free_tokens_10 and free_tokens_50: largest size within 1.1 and 1.5 times the first knot's
    seconds, null if the curve never costs more. Their intervals of 95 %: null if not estimated, a
    null bound lies beyond the last knot. steps: sizes whose seconds jump up from size - 1.
    """

    batch: Count | None
    context: Tally | None
    knots: Annotated[list[Knot], Field(min_length=1)]
    roofline: Roofline | None
    free_tokens_10: Count | None
    free_tokens_10_interval: FreeRange | None
    free_tokens_50: Count | None
    free_tokens_50_interval: FreeRange | None
    steps: list[Count]

    @property
    def place(self) -> Place:
        """Batch and context."""
        return self.batch, self.context

    @model_validator(mode="after")
    def _consistent(self) -> Curve:
        sizes = _require_increasing([x.size for x in self.knots], "knot sizes")
        known = set(sizes)
        for step in _require_increasing(self.steps, "steps"):
            if step not in known or step - 1 not in known:
                raise ValueError(f"expected knots at both sides of step {step}, got none")
        _require_free(self.free_tokens_10, self.free_tokens_10_interval, sizes)
        _require_free(self.free_tokens_50, self.free_tokens_50_interval, sizes)
        return self


class Domain(_Part):
    """Smallest and largest value that the curves reach on each axis."""

    batch: CountRange | None
    size: CountRange
    context: TallyRange | None


class Surface(_Part):
    """One quantity: curves at every pair of its batches and contexts, and the measured anchors."""

    size_axis: SizeAxis
    anchors: list[Anchor]
    curves: Annotated[list[Curve], Field(min_length=1)]
    domain: Domain

    @model_validator(mode="after")
    def _consistent(self) -> Surface:
        _require_full_product([x.place for x in self.curves])
        _require_anchors_on_curves(self.anchors, self.curves)
        spanned = spanned_domain(self.curves)
        if self.domain != spanned:
            raise ValueError(f"expected the domain of the curves, {spanned}, got {self.domain}")
        return self


class DrafterCosts(_Part):
    """The two quantities that belong to a drafter."""

    digest: Name
    kind: Name
    draft_step: Surface
    draft_catchup: Surface

    @model_validator(mode="after")
    def _axes(self) -> DrafterCosts:
        _require_axes("draft_step", self.draft_step)
        _require_axes("draft_catchup", self.draft_catchup)
        return self


class Profile(_Part):
    """Everything measured on one device with one target. `checksum` is "" until it is written."""

    schema_version: Literal[2]
    created: Name
    provenance: Provenance
    key: Key
    verify: Surface
    plain_decode: Surface
    round_overhead: Surface
    drafters: dict[Name, DrafterCosts]
    quality: Quality
    acceptance: None = None
    checksum: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$")] = ""

    @field_validator("created")
    @classmethod
    def _utc(cls, created: str) -> str:
        return require_utc(created)

    @model_validator(mode="after")
    def _axes(self) -> Profile:
        _require_axes("verify", self.verify)
        _require_axes("plain_decode", self.plain_decode)
        _require_axes("round_overhead", self.round_overhead)
        return self


def spanned_domain(curves: Sequence[Curve]) -> Domain:
    """The domain that these curves (at least one) span."""
    batches = [x.batch for x in curves if x.batch is not None]
    contexts = [x.context for x in curves if x.context is not None]
    return Domain(
        batch=(min(batches), max(batches)) if batches else None,
        size=(min(x.knots[0].size for x in curves), max(x.knots[-1].size for x in curves)),
        context=(min(contexts), max(contexts)) if contexts else None,
    )


def _require_increasing(values: list[int], what: str) -> list[int]:
    for before, after in pairwise(values):
        if after <= before:
            raise ValueError(f"expected strictly increasing {what}, got {after} after {before}")
    return values


def _require_free(
    free: int | None, interval: tuple[int | None, int | None] | None, sizes: list[int]
) -> None:
    for value in (free, *(interval or ())):
        if value is not None and not sizes[0] <= value <= sizes[-1]:
            raise ValueError(f"expected free tokens in {sizes[0]}..{sizes[-1]}, got {value}")
    if interval is None:
        return
    in_order = [MOST_COUNT + 1 if x is None else x for x in (interval[0], free, interval[1])]
    if in_order != sorted(in_order):
        raise ValueError(f"expected free tokens within {list(interval)}, got {free}")


def _require_full_product(places: Sequence[Place]) -> None:
    known = set(places)
    if len(known) != len(places):
        raise ValueError("expected one curve per batch and context, got two at the same")
    for batch in {x[0] for x in known}:
        for context in {x[1] for x in known}:
            if (batch, context) not in known:
                raise ValueError(f"expected a curve at {_place_text((batch, context))}, got none")
    for values in zip(*known, strict=True):
        if None in values and set(values) != {None}:
            raise ValueError("expected an axis on all curves or on none, got null on some")


def _require_anchors_on_curves(anchors: Iterable[Anchor], curves: Iterable[Curve]) -> None:
    knots = {(*curve.place, x.size): x.seconds for curve in curves for x in curve.knots}
    seen = set()
    for anchor in anchors:
        point = (anchor.batch, anchor.context, anchor.size)
        where = f"{_place_text(point[:2])}, size {anchor.size}"
        if knots.get(point) != anchor.seconds:
            raise ValueError(
                f"expected a knot of the anchor's {anchor.seconds} s at {where}, "
                f"got {knots.get(point, 'none')}"
            )
        if point in seen:
            raise ValueError(f"expected one anchor at {where}, got two")
        seen.add(point)


def _require_axes(quantity: Quantity, surface: Surface) -> None:
    axes = AXES[quantity]
    if surface.size_axis != axes.size:
        raise ValueError(f"{quantity}: expected size axis {axes.size}, got {surface.size_axis}")
    for name, wanted in (("batch", axes.batch), ("context", axes.context)):
        if (getattr(surface.domain, name) is not None) != wanted:
            raise ValueError(
                f"{quantity}: expected {'a' if wanted else 'no'} {name} axis, "
                f"got {'none' if wanted else 'one'}"
            )
    for curve in surface.curves:
        _require_first_size(quantity, axes, curve)


def _require_first_size(quantity: Quantity, axes: Axes, curve: Curve) -> None:
    """A pass over a batch has at least one token per request."""
    if curve.batch is None or axes.first_size == "any":
        return
    first = curve.knots[0].size
    exactly = axes.first_size == "batch"
    if first < curve.batch or (exactly and first != curve.batch):
        raise ValueError(
            f"{quantity}: expected the first knot of batch {curve.batch} at {curve.batch}"
            f"{'' if exactly else ' or more'} {axes.size}, got {first}"
        )


def _place_text(place: Place) -> str:
    return f"batch {place[0]}, context {place[1]}"

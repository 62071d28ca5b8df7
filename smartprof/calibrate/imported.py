"""A profile from timings that somebody else measured, and from what is stated instead of measured.

What has neither rows nor a stated value is an error: nothing is taken for free.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from smartprof.calibrate.fit import fit_surface
from smartprof.calibrate.points import Place, Points
from smartprof.calibrate.quality import with_regret
from smartprof.calibrate.stated import (
    STANDS_FOR,
    Stated,
    constant_surface,
    option,
    plain_surface,
)
from smartprof.errors import InputError
from smartprof.format import seconds_text
from smartprof.profile.describe import made_of
from smartprof.profile.part import utc_now
from smartprof.profile.quality import UNMEASURED
from smartprof.profile.schema import (
    AXES,
    SCHEMA_VERSION,
    DrafterCosts,
    Key,
    Profile,
    Provenance,
    Quality,
    Quantity,
    Surface,
)
from smartprof.stats import Summary, summarise


@dataclass(frozen=True)
class ImportRequest:
    """drafter: whose the draft quantities are, None for a profile that prices none. note: of the
    user, kept in the provenance.
    """

    points: Points
    key: Key
    drafter: str | None
    stated: Stated
    command: str
    note: str = ""


def import_profile(request: ImportRequest) -> Profile:
    """The profile of these timings. Raises InputError or ProfileError for what is missing."""
    points, stated, name = request.points, request.stated, request.drafter
    _require_all(request)
    measured = {
        quantity: {x: _summary(y, stated) for x, y in samples.items()}
        for quantity, samples in points.samples.items()
    }
    for quantity, summaries in measured.items():
        _require_full(points.name, quantity, summaries)
    with made_of(points.name):
        surfaces = {x: _surface(x, measured, stated) for x in _wanted(request)}
        profile = Profile(
            schema_version=SCHEMA_VERSION,
            created=utc_now(),
            provenance=Provenance(kind="imported", command=request.command, note=_note(request)),
            key=request.key,
            verify=surfaces["verify"],
            plain_decode=surfaces["plain_decode"],
            round_overhead=surfaces["round_overhead"],
            drafters={} if name is None else {name: _drafter(name, surfaces)},
            quality=_quality(points, stated, measured["verify"]),
            acceptance=None,
            checksum="",
        )
    # Refits stray as far as the intervals say: where those are not known, neither is the regret.
    return profile if profile.quality.warnings else with_regret(profile)


def _wanted(request: ImportRequest) -> list[Quantity]:
    drafting = () if request.drafter is None else ("draft_step", "draft_catchup")
    return [x for x in AXES if not x.startswith("draft") or x in drafting]


def _require_all(request: ImportRequest) -> None:
    """Raise InputError naming everything that has neither rows nor a stated value, or has both."""
    points, stated, wanted = request.points, request.stated, _wanted(request)
    if "verify" not in points.samples:
        raise InputError(f"{points.name}: expected rows of verify, got none")
    unpriced = [x for x in points.samples if x not in wanted]
    if unpriced:
        raise InputError(
            f"{points.name}: has rows of {unpriced[0]}: name their drafter with --drafter-name"
        )
    unused = [x for x in STANDS_FOR if x not in wanted and stated.seconds(x) is not None]
    if unused:
        useless = option(STANDS_FOR[unused[0]][0])
        raise InputError(f"expected no {useless} without a drafter: name one with --drafter-name")
    missing = []
    for quantity in (x for x in wanted if x != "verify"):
        field, meaning = STANDS_FOR[quantity]
        given = stated.seconds(quantity) is not None
        if given and quantity in points.samples:
            raise InputError(
                f"{points.name}: has rows of {quantity}: expected no {option(field)} beside them"
            )
        if not given and quantity not in points.samples:
            missing.append(f"{quantity} ({option(field)}: {meaning})")
    if missing:
        raise InputError(
            f"{points.name}: no rows of {', '.join(missing)}: add rows, or state the seconds by "
            "the option"
        )


def _require_full(name: str, quantity: Quantity, places: Collection[Place]) -> None:
    """Rows at every pair of batches and contexts, and of passes at one token per request."""
    axes = AXES[quantity]
    if not axes.batch:
        return
    for batch, context in product({x[0] for x in places}, {x[2] for x in places}):
        sizes = [x[1] for x in places if (x[0], x[2]) == (batch, context)]
        if not sizes:
            raise InputError(
                f"{name}: {quantity}: expected rows at every pair of its batches and contexts, got "
                f"none at batch {batch}, context {context}: add them, or leave out that batch or "
                "context"
            )
        if axes.first_size == "batch" and min(sizes) != batch:
            raise InputError(
                f"{name}: {quantity}: expected a row of one token per request ({batch} tokens) at "
                f"batch {batch}, context {context}, got {min(sizes)} as the fewest: add it"
            )


def _summary(samples: list[float], stated: Stated) -> Summary:
    """Of the repetitions. The spread of one alone is what was stated, else not known: as wide as
    the value itself.
    """
    found = summarise(samples)
    if len(samples) > 1 or stated.half_width is None:
        return found
    return Summary(found.median, found.spread, stated.half_width * found.median, 1)


def _surface(
    quantity: Quantity, measured: Mapping[Quantity, Mapping[Place, Summary]], stated: Stated
) -> Surface:
    if quantity in measured:
        return fit_surface(quantity, measured[quantity])
    seconds = stated.seconds(quantity)
    assert seconds is not None  # `_require_all` has seen to it
    if quantity == "plain_decode":
        return plain_surface(measured["verify"], seconds)
    return constant_surface(quantity, measured["verify"], seconds)


def _drafter(name: str, surfaces: Mapping[Quantity, Surface]) -> DrafterCosts:
    return DrafterCosts(
        digest=f"imported-{name}",
        kind=name,
        draft_step=surfaces["draft_step"],
        draft_catchup=surfaces["draft_catchup"],
    )


def _note(request: ImportRequest) -> str:
    """Where the seconds come from: the file, and everything that was stated instead."""
    points = request.points
    parts = [request.note] if request.note else []
    parts.append(f"points of {points.name} (sha256 {points.digest}, {points.rows} rows)")
    for quantity in _wanted(request):
        if quantity not in points.samples:
            seconds = seconds_text(request.stated.seconds(quantity))
            beside = "verify passes of one token per request + " * (quantity == "plain_decode")
            parts.append(f"{quantity} stated, not measured: {beside}{seconds}")
    if request.stated.half_width is not None:
        share = 100 * request.stated.half_width
        parts.append(f"half-width of points with one row stated: {share:g} %")
    return "; ".join(parts)


def _quality(points: Points, stated: Stated, verify: Mapping[Place, Summary]) -> Quality:
    """Nothing was held out; the noise floor is that of the verify passes with several rows."""
    widths = [x.ci_half_width / x.median for x in verify.values() if x.samples > 1]
    single = sum(len(y) == 1 for x in points.samples.values() for y in x.values())
    places = sum(len(x) for x in points.samples.values())
    warnings = []
    if single and stated.half_width is None:
        warnings.append(
            f"{single} of {places} points have one row, so nothing is known of their spread: give "
            "each several rows, or state --half-width"
        )
    return UNMEASURED.model_copy(
        update={
            "noise_floor_pct": 100 * float(np.median(widths)) if widths else None,
            "shapes": places,
            "forwards": points.rows,
            "warnings": warnings,
        }
    )

"""Small valid profiles made from functions, for tests of everything that reads one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import numpy as np

from smartprof.profile.cost import CostModel
from smartprof.profile.quality import NO_ERRORS, UNMEASURED
from smartprof.profile.schema import (
    AXES,
    SCHEMA_VERSION,
    Anchor,
    Curve,
    DeviceKey,
    DrafterCosts,
    Key,
    Knot,
    ModelKey,
    Profile,
    Provenance,
    Quality,
    Quantity,
    SoftwareKey,
    Surface,
    spanned_domain,
)
from smartprof.profile.surface import SurfaceEvaluator

# (batch, size, context) -> seconds; batch is the size for plain decoding, context 0 for overhead.
Seconds = Callable[[int, int, int], float]

BATCHES = (1, 2, 4, 8)
CONTEXTS = (64, 256, 1024)
SIZES = (1, 2, 4, 8, 16, 17, 32, 64, 128)


def bent(batch: int, size: int, context: int) -> float:
    """Flat to 8 tokens, then a slope, plus what attention reads: the usual shape."""
    return 0.020 + 0.0008 * max(0, size - 8) + 2e-7 * batch * context + 1e-9 * size * context


def make_key() -> Key:
    """The key of an imaginary CPU."""
    return Key(
        device=DeviceKey(
            kind="cpu",
            name="Test CPU",
            uuid_digest=None,
            memory_bytes=8 * 2**30,
            capability=None,
            driver=None,
            threads=2,
        ),
        software=SoftwareKey(python="3.11.4", torch="2.9.0", smartprof="0.1.0", cuda=None),
        target=ModelKey(name="tiny-llama", digest="0123456789abcdef", parameters=1_000_000),
        dtype="float32",
        execution="eager",
        capture_sizes=[],
    )


def make_surface(
    quantity: Quantity,
    seconds: Seconds,
    batches: Sequence[int] = BATCHES,
    contexts: Sequence[int] = CONTEXTS,
    sizes: Sequence[int] = SIZES,
    half_width: float = 0.0,
) -> Surface:
    """A surface through seconds(batch, size, context); every knot is an anchor.

    half_width: 95 % half-width of every knot, as a share of its seconds. A batch takes those of
    `sizes` that have a token per request, and a first one of exactly that.
    """
    axes = AXES[quantity]
    curves = []
    for batch in batches if axes.batch else (None,):
        own = batches if quantity == "plain_decode" else [x for x in sizes if x > (batch or 0)]
        if batch is not None:
            own = sorted({batch, *own} if quantity != "draft_step" else set(sizes))
        for context in contexts if axes.context else (None,):
            knots = [_knot(seconds(batch or x, x, context or 0), x, half_width) for x in own]
            curves.append(make_curve(batch, context, knots))
    anchors = [make_anchor(x, knot) for x in curves for knot in x.knots]
    return Surface(
        size_axis=axes.size, anchors=anchors, curves=curves, domain=spanned_domain(curves)
    )


def make_profile(
    seconds: Seconds = bent,
    *,
    overhead: Seconds | None = None,
    plain: Seconds | None = None,
    draft_step: Seconds | None = None,
    draft_catchup: Seconds | None = None,
    drafters: Sequence[str] = ("ngram",),
    batches: Sequence[int] = BATCHES,
    contexts: Sequence[int] = CONTEXTS,
    sizes: Sequence[int] = SIZES,
    half_width: float = 0.0,
    key: Key | None = None,
) -> Profile:
    """A profile whose verify pass takes seconds(batch, size, context).

    Unless given: overhead 1 ms, plain decoding a verify pass of one token per request plus that
    overhead, a draft step and a catch-up 0.1 ms. half_width: a share of the seconds.
    """
    grid = (batches, contexts, sizes, half_width)
    around = overhead or (lambda batch, size, context: 1e-3)

    def plain_round(batch: int, size: int, context: int) -> float:
        return seconds(batch, batch, context) + around(batch, batch, context)

    def cheap(batch: int, size: int, context: int) -> float:
        return 1e-4

    costs = DrafterCosts(
        digest="fedcba9876543210",
        kind="ngram",
        draft_step=make_surface("draft_step", draft_step or cheap, *grid),
        draft_catchup=make_surface("draft_catchup", draft_catchup or cheap, *grid),
    )
    return Profile(
        schema_version=SCHEMA_VERSION,
        created="2026-01-31T12:00:00Z",
        provenance=Provenance(kind="measured", command="made by a test", note=""),
        key=key or make_key(),
        verify=make_surface("verify", seconds, *grid),
        plain_decode=make_surface("plain_decode", plain or plain_round, *grid),
        round_overhead=make_surface("round_overhead", around, *grid),
        drafters={x: costs for x in drafters},
        quality=make_quality(),
    )


def make_quality() -> Quality:
    """Quality of a profile without held-out points."""
    return UNMEASURED.model_copy(update={"strata": {"small": NO_ERRORS}})


def assert_sound(profile: Profile, queries: int = 6) -> None:
    """Anchors come back exactly, and random queries in every domain give finite, positive seconds.

    Queries: the corners of the domain and `queries` random points of each surface.
    """
    random = Random(0)
    for name, costs in profile.drafters.items():
        surfaces: dict[Quantity, Surface] = {
            "verify": profile.verify,
            "plain_decode": profile.plain_decode,
            "round_overhead": profile.round_overhead,
            "draft_step": costs.draft_step,
            "draft_catchup": costs.draft_catchup,
        }
        model = CostModel(profile, name)
        for quantity, surface in surfaces.items():
            _assert_anchors(model, quantity, surface)
            _assert_finite(surface, random, queries)


def _assert_anchors(model: CostModel, quantity: Quantity, surface: Surface) -> None:
    evaluator = SurfaceEvaluator(surface)
    for anchor in surface.anchors:
        found = evaluator.seconds(anchor.batch, [anchor.size], anchor.context)[0]
        assert found == anchor.seconds
        batch = anchor.size if anchor.batch is None else anchor.batch
        prediction = model.predict(quantity, batch, anchor.size, anchor.context)
        assert prediction.seconds == anchor.seconds
        assert prediction.tier == "exact"


def _assert_finite(surface: Surface, random: Random, queries: int) -> None:
    evaluator = SurfaceEvaluator(surface)
    domain = surface.domain
    sizes = [*domain.size, *(random.randint(*domain.size) for _ in range(queries))]
    for corner in range(4):
        batch = domain.batch[corner % 2] if domain.batch else None
        context = domain.context[corner // 2] if domain.context else None
        _assert_positive(evaluator, batch, sizes, context)
    for _ in range(queries):
        batch = random.randint(*domain.batch) if domain.batch else None
        between = random.uniform(*domain.context) if domain.context else None
        _assert_positive(evaluator, batch, sizes, between)


def _assert_positive(
    evaluator: SurfaceEvaluator, batch: int | None, sizes: list[int], context: float | None
) -> None:
    seconds = evaluator.seconds(batch, sizes, context)
    assert np.all(np.isfinite(seconds)) and np.all(seconds > 0), (batch, sizes, context, seconds)


def _knot(seconds: float, size: int, half_width: float) -> Knot:
    return Knot(size=size, seconds=seconds, ci_half_width=half_width * seconds)


def make_curve(batch: int | None, context: int | None, knots: list[Knot]) -> Curve:
    return Curve(
        batch=batch,
        context=context,
        knots=knots,
        roofline=None,
        free_tokens_10=None,
        free_tokens_10_interval=None,
        free_tokens_50=None,
        free_tokens_50_interval=None,
        steps=[],
    )


def make_anchor(curve: Curve, knot: Knot) -> Anchor:
    return Anchor(
        batch=curve.batch,
        context=curve.context,
        size=knot.size,
        seconds=knot.seconds,
        spread=knot.ci_half_width,
        ci_half_width=knot.ci_half_width,
        samples=5,
    )

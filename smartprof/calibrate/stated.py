"""Seconds that are stated where nothing was measured, and the surfaces made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from smartprof.calibrate.points import Place
from smartprof.errors import InputError
from smartprof.profile.schema import AXES, Curve, Knot, Quantity, Surface, spanned_domain
from smartprof.stats import Summary

# What stands for a quantity without rows: the field of `Stated`, and its option's meaning.
STANDS_FOR: dict[Quantity, tuple[str, str]] = {
    "round_overhead": ("overhead_seconds", "what a round takes beside its passes"),
    "plain_decode": ("plain_overhead_seconds", "what a plain round takes beside its pass"),
    "draft_step": ("draft_step_seconds", "one step of the drafter"),
    "draft_catchup": ("draft_catchup_seconds", "its catch-up"),
}


@dataclass(frozen=True)
class Stated:
    """Seconds that options state; None: not stated. plain_overhead_seconds is added to a verify
    pass of one token per request; the others hold at every batch, size and context.

    half_width: 95 % half-width of points with a single row, as a share of their seconds.
    """

    overhead_seconds: float | None = None
    plain_overhead_seconds: float | None = None
    draft_step_seconds: float | None = None
    draft_catchup_seconds: float | None = None
    half_width: float | None = None

    def __post_init__(self) -> None:
        """Raise InputError for what is no time and no share."""
        for name, _ in STANDS_FOR.values():
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"expected {option(name)} above 0, got {value:g}")
        if self.half_width is not None and not 0 < self.half_width < 1:
            raise InputError(
                f"expected --half-width as a share such as 0.01, got {self.half_width:g}"
            )

    def seconds(self, quantity: Quantity) -> float | None:
        """What stands for the quantity."""
        found: float | None = getattr(self, STANDS_FOR[quantity][0])
        return found


def option(field: str) -> str:
    """The option of a field."""
    return f"--{field.replace('_', '-')}"


def plain_surface(verify: Mapping[Place, Summary], overhead: float) -> Surface:
    """Passes of one token per request, and what was stated besides. No point of it was measured."""
    curves = [
        _curve(
            None,
            context,
            [
                Knot(
                    size=batch,
                    seconds=verify[batch, batch, context].median + overhead,
                    ci_half_width=verify[batch, batch, context].ci_half_width,
                )
                for batch in sorted({x[0] for x in verify})
            ],
        )
        for context in sorted({x[2] for x in verify})
    ]
    return Surface(size_axis="batch", anchors=[], curves=curves, domain=spanned_domain(curves))


def constant_surface(
    quantity: Quantity, verify: Mapping[Place, Summary], seconds: float
) -> Surface:
    """A stated value over the batches, sizes and contexts of the verify passes."""
    axes = AXES[quantity]
    most = max(x[1] for x in verify)
    contexts = sorted({x[2] for x in verify}) if axes.context else [None]
    curves = []
    for batch in sorted({x[0] for x in verify}):
        first = 1 if axes.first_size == "any" else batch
        sizes = sorted({first, most})
        knots = [Knot(size=x, seconds=seconds, ci_half_width=0.0) for x in sizes]
        curves += [_curve(batch, x, knots) for x in contexts]
    return Surface(size_axis=axes.size, anchors=[], curves=curves, domain=spanned_domain(curves))


def _curve(batch: int | None, context: int | None, knots: list[Knot]) -> Curve:
    """A curve that nothing was fitted to."""
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

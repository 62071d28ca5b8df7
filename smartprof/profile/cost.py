"""The only place that turns a profile into seconds."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from smartprof.errors import DomainError, InputError, ProfileError
from smartprof.profile.blend_cache import BlendCache
from smartprof.profile.envelope import Envelope, pad_up
from smartprof.profile.schema import AXES, Profile, Quantity, Surface
from smartprof.profile.surface import REACH, SurfaceEvaluator, Tier

# A size is an int or an integer array; the answer is a float or a float64 array of the same shape.
Sizes = TypeVar("Sizes", float, NDArray[Any])
MOST_ENVELOPES = 256
# Passes longer than this are looked at by the envelope only where they are asked for.
LONGEST_PAD = 4096


class Costs(Protocol):
    """What a policy may ask: seconds, by batch, total size over the batch, and mean context."""

    def source(self, drafter: str) -> Costs:
        """The same, drafting with another drafter of the profile."""

    @property
    def most_tokens(self) -> int:
        """The longest verify pass that was measured, in tokens; policies stay within it."""

    def verify(self, batch: int, tokens: Sizes, context: float) -> Sizes:
        """One target pass over `tokens` tokens of the whole batch, roots included."""

    def draft_step(self, batch: int, rows: Sizes, context: float) -> Sizes:
        """One step of the drafter over `rows` nodes of the whole batch."""

    def draft_catchup(self, batch: int, accepted: Sizes, context: float) -> Sizes:
        """The drafter takes in `accepted` tokens of the whole batch and proposes for the roots."""

    def round_overhead(self, batch: int, tokens: Sizes) -> Sizes:
        """Everything else in a round whose verify pass has `tokens` tokens."""

    def plain_decode(self, batch: int, context: float) -> float:
        """A whole plain round, overhead included: one token per request."""

    def verify_envelope(self, batch: int, max_tokens: int, context: float) -> Envelope:
        """Verify and overhead for batch..max_tokens tokens, padded up where that is cheaper."""


@dataclass(frozen=True)
class Prediction:
    """Seconds of one query, how they were found, and what the profile's numbers rest on.

    ci_half_width: 95 % half-width of the anchor's median; None unless the tier is exact.
    """

    quantity: Quantity
    batch: int
    size: int
    context: float | None
    seconds: float
    tier: Tier
    ci_half_width: float | None
    provenance: str


class CostModel:
    """The seconds of a profile for one drafter, or none.

    The methods that policies ask each round (verify, draft_step, draft_catchup, round_overhead,
    verify_envelope) round contexts that were not measured to the nearest 16 tokens, so that
    consecutive rounds share tables; anchors stay exact. `predict` and `plain_decode` never round.
    All raise DomainError more than two octaves outside what was measured.
    """

    def __init__(self, profile: Profile, drafter: str | None = None) -> None:
        self.profile = profile
        self.drafter = drafter
        self._curves = _curves(_surfaces(profile, drafter))
        self._envelopes: dict[tuple[int, int, float], Envelope] = {}
        self._sources: dict[str, CostModel] = {}

    def source(self, drafter: str) -> CostModel:
        """The same device and target with another drafter's seconds; ProfileError without them."""
        found = self._sources.get(drafter)
        if found is None:
            found = copy.copy(self)  # shares the target's curves and envelopes
            found.drafter = drafter
            found._curves = self._curves | _curves(_draft_surfaces(self.profile, drafter))
            self._sources[drafter] = found
        return found

    @property
    def most_tokens(self) -> int:
        """The longest verify pass that was measured, in tokens."""
        return self.profile.verify.domain.size[1]

    @property
    def most_catchup(self) -> int:
        """Tokens of a catch-up beyond which its seconds per token are held."""
        return int(self._known("draft_catchup").evaluator.domain.size[1] * REACH)

    def verify(self, batch: int, tokens: Sizes, context: float) -> Sizes:
        """Seconds of one target pass over `tokens` in total, roots included, tokens >= batch."""
        return self._seconds("verify", batch, tokens, context)

    def draft_step(self, batch: int, rows: Sizes, context: float) -> Sizes:
        """Seconds of one step of the drafter over `rows` nodes in total."""
        return self._seconds("draft_step", batch, rows, context)

    def draft_catchup(self, batch: int, accepted: Sizes, context: float) -> Sizes:
        """Seconds of the drafter's catch-up on `accepted` tokens in total, accepted >= batch.

        Nothing bounds what a drafter that paused has to take in: beyond two octaves the seconds per
        token of that edge are held, instead of a refusal in the middle of a run.
        """
        most = self.most_catchup
        excess = np.maximum(np.asarray(accepted) / most, 1.0)
        within: Any = np.minimum(accepted, most)
        seconds: Any = excess * self._seconds("draft_catchup", batch, within, context)
        answer: Any = seconds if np.ndim(accepted) else float(seconds)
        return answer

    def round_overhead(self, batch: int, tokens: Sizes) -> Sizes:
        """Seconds of everything else in a round that verifies `tokens` in total."""
        return self._seconds("round_overhead", batch, tokens, 0.0)

    def plain_decode(self, batch: int, context: float) -> float:
        """Seconds of a whole plain round, overhead included, one token per request."""
        evaluator = self._curves["plain_decode"].evaluator
        return float(evaluator.seconds(None, batch, context)[0])

    def predict(self, quantity: str, batch: int, size: int, context: float | None) -> Prediction:
        """Seconds of one query with their tier. plain_decode takes the batch as size.

        context is not looked at where the quantity has none. Raises InputError for an unknown
        quantity or a contradiction, ProfileError for a draft quantity without a drafter.
        """
        curves = self._known(quantity)
        name = curves.evaluator.name
        if name == "plain_decode" and size != batch:
            raise InputError(f"plain_decode: expected one token per request, got {size} / {batch}")
        _require_tokens(name, batch, size)
        where = (batch, size, context)
        tier = curves.evaluator.tier(*where)
        exact = tier == "exact"
        return Prediction(
            quantity=name,  # type: ignore[arg-type]
            batch=batch,
            size=size,
            context=context if AXES[name].context else None,  # type: ignore[index]
            seconds=float(curves.evaluator.seconds(*where)[0]),
            tier=tier,
            ci_half_width=float(curves.evaluator.half_widths(*where)[0]) if exact else None,
            provenance=self.profile.provenance.kind,
        )

    def half_width(self, quantity: str, batch: int, size: int, context: float) -> float:
        """95 % half-width of a query's seconds, interpolated between those of the measured points.

        It tells the noise of measuring, not the error of interpolating; that of the edge outside.
        """
        evaluator = self._known(quantity).evaluator
        return float(evaluator.half_widths(batch, [size], context)[0])

    def verify_envelope(self, batch: int, max_tokens: int, context: float) -> Envelope:
        """Seconds of verify + round_overhead for n = batch..max_tokens, padded up where cheaper.

        C~(n) = min over m >= n of C(m), m up to the last measured size (and 4096), over dips larger
        than the confidence intervals at both ends. Raises DomainError if max_tokens < batch.
        """
        _require_tokens("verify", batch, max_tokens)
        key = (batch, max_tokens, self._curves["verify"].rounded(context))
        found = self._envelopes.get(key)
        if found is None:
            if len(self._envelopes) >= MOST_ENVELOPES:
                self._envelopes.clear()
            found = self._envelopes[key] = self._make_envelope(*key)
        return found

    def _make_envelope(self, batch: int, max_tokens: int, context: float) -> Envelope:
        verify, overhead = (self._curves[x].evaluator for x in ("verify", "round_overhead"))
        measured = min(verify.domain.size[1], overhead.domain.size[1], LONGEST_PAD)
        tokens = np.arange(batch, max(max_tokens, measured) + 1)
        where = (batch, tokens, context)
        return pad_up(
            tokens,
            verify.seconds(*where) + overhead.seconds(*where),
            np.hypot(verify.half_widths(*where), overhead.half_widths(*where)),
            max_tokens - batch + 1,
            measured,
        )

    def _seconds(self, quantity: Quantity, batch: int, size: Sizes, context: float) -> Sizes:
        curves = self._known(quantity)
        sizes = np.asarray(size)
        if sizes.size:
            _require_tokens(quantity, batch, int(sizes.min()))
        answers = curves.seconds(batch, np.atleast_1d(sizes), context)
        answer: Any = answers if sizes.ndim else float(answers[0])
        return answer

    def _known(self, quantity: str) -> BlendCache:
        found = self._curves.get(quantity)
        if found is not None:
            return found
        if quantity in get_args(Quantity):
            raise ProfileError(
                f"{quantity}: expected a drafter, got none: {_drafters(self.profile)}"
            )
        raise InputError(f"expected one of {', '.join(get_args(Quantity))}, got {quantity!r}")


def _surfaces(profile: Profile, drafter: str | None) -> dict[str, Surface]:
    found = {
        "verify": profile.verify,
        "plain_decode": profile.plain_decode,
        "round_overhead": profile.round_overhead,
    }
    return found if drafter is None else found | _draft_surfaces(profile, drafter)


def _draft_surfaces(profile: Profile, drafter: str) -> dict[str, Surface]:
    costs = profile.drafters.get(drafter)
    if costs is None:
        raise ProfileError(f"expected costs of drafter {drafter!r}, got none: {_drafters(profile)}")
    return {"draft_step": costs.draft_step, "draft_catchup": costs.draft_catchup}


def _curves(surfaces: dict[str, Surface]) -> dict[str, BlendCache]:
    return {x: BlendCache(SurfaceEvaluator(y, x)) for x, y in surfaces.items()}


def _drafters(profile: Profile) -> str:
    known = ", ".join(sorted(profile.drafters)) or "none"
    return f"the profile has {known}; calibrate with another --drafter"


def _require_tokens(quantity: str, batch: int, size: int) -> None:
    """A pass over a batch has at least one token per request."""
    if quantity != "draft_step" and size < batch:
        raise DomainError(
            f"{quantity}: expected at least one token per request, {batch} in all, got {size}"
        )

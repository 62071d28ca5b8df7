"""Costs as if every request had a given number of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from smartprof.profile.cost import Costs
from smartprof.profile.envelope import Envelope


@dataclass(frozen=True)
class AtContext:
    """The same `Costs` at one context, whatever context is asked for."""

    costs: Costs
    context: int

    @property
    def most_tokens(self) -> int:
        """As measured."""
        return self.costs.most_tokens

    def source(self, drafter: str) -> AtContext:
        """Another drafter's, at the same context."""
        return AtContext(self.costs.source(drafter), self.context)

    def verify(self, batch: int, tokens: Any, context: float) -> Any:
        """See `Costs`."""
        return self.costs.verify(batch, tokens, self.context)

    def draft_step(self, batch: int, rows: Any, context: float) -> Any:
        """See `Costs`."""
        return self.costs.draft_step(batch, rows, self.context)

    def draft_catchup(self, batch: int, accepted: Any, context: float) -> Any:
        """See `Costs`."""
        return self.costs.draft_catchup(batch, accepted, self.context)

    def round_overhead(self, batch: int, tokens: Any) -> Any:
        """See `Costs`."""
        return self.costs.round_overhead(batch, tokens)

    def plain_decode(self, batch: int, context: float) -> float:
        """See `Costs`."""
        return self.costs.plain_decode(batch, self.context)

    def verify_envelope(self, batch: int, max_tokens: int, context: float) -> Envelope:
        """See `Costs`."""
        return self.costs.verify_envelope(batch, max_tokens, self.context)

"""Stand-ins for a profile's costs: tables and straight lines written in the test itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TableEnvelope:
    """Same fields as the real envelope."""

    tokens: np.ndarray
    seconds: np.ndarray
    pad_to: np.ndarray


@dataclass(frozen=True)
class TableCosts:
    """Satisfies `Costs` from plain lists, the same at every batch and context.

    verify: seconds of a round's pass of 1, 2, ... tokens, overhead included. draft_steps: seconds
    of a step of 1, 2, ... rows. All dips count as significant. Sizes beyond a list cost its last
    entry.
    """

    verify_table: Sequence[float]
    step_table: Sequence[float] = (0.0,)
    catchup_seconds: float = 0.0
    calls: list[str] = field(default_factory=list)
    most_tokens: int = 1 << 20

    def source(self, drafter: str) -> TableCosts:
        return self

    def verify(self, batch: int, tokens: Any, context: float) -> Any:
        return _look_up(self.verify_table, tokens)

    def draft_step(self, batch: int, rows: Any, context: float) -> Any:
        return _look_up(self.step_table, rows)

    def draft_catchup(self, batch: int, accepted: Any, context: float) -> Any:
        return self.catchup_seconds + 0.0 * np.asarray(accepted)

    def round_overhead(self, batch: int, tokens: Any) -> Any:
        return 0.0 * np.asarray(tokens)

    def plain_decode(self, batch: int, context: float) -> float:
        return self.verify_table[batch - 1]

    def verify_envelope(self, batch: int, max_tokens: int, context: float) -> TableEnvelope:
        """Element by element: the cheapest size at least as large, the smallest of equals."""
        self.calls.append("verify_envelope")
        tokens = np.arange(batch, max_tokens + 1)
        table = list(self.verify_table)
        table += table[-1:] * (max_tokens - len(table))
        pad_to = [
            n + min(range(len(table) - n + 1), key=table[n - 1 :].__getitem__) for n in tokens
        ]
        return TableEnvelope(tokens, _look_up(self.verify_table, pad_to), np.array(pad_to))


def line(fixed: float, each: float, most: int = 256) -> list[float]:
    """fixed + each * n for n = 1 ... most."""
    return [fixed + each * n for n in range(1, most + 1)]


def _look_up(table: Sequence[float], size: Any) -> Any:
    index = np.minimum(np.asarray(size), len(table)) - 1
    return np.asarray(table, float)[index]

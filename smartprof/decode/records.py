"""What rounds and comparisons leave behind. Knows nothing of torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_TIES = 1e-3  # per token; more of them is not rounding


@dataclass(frozen=True)
class RoundRecord:
    """What one round did, over the B requests of the batch, row by row.

    seconds: wall clock of the whole round; draft and verify are parts of it, the rest is overhead.
    draft_seconds: from the first expansion to the decision against a further one.
    modelled_seconds, modelled_draft_seconds, modelled_verify_seconds: the same, priced by the
    profile.
    committed, accepted, tree_size, context_lens: int64 [B]; tree size counts the root; context
    lengths are those before the round.
    requests: arrival indices int64 [B].
    """

    seconds: float
    draft_seconds: float
    verify_seconds: float
    modelled_seconds: float
    modelled_draft_seconds: float
    modelled_verify_seconds: float
    draft_steps: int
    verify_tokens: int
    committed: NDArray[np.int64]
    accepted: NDArray[np.int64]
    tree_size: NDArray[np.int64]
    context_lens: NDArray[np.int64]
    requests: NDArray[np.int64]


@dataclass(frozen=True)
class Equality:
    """Tokens compared; ties among them; tokens that plain decoding would not have chosen."""

    tokens: int
    ties: int
    changed: int

    @property
    def identical(self) -> bool:
        """Nothing changed, and at most one token in a thousand is a tie."""
        return self.changed == 0 and self.ties <= MOST_TIES * self.tokens

    def __add__(self, other: Equality) -> Equality:
        return Equality(
            self.tokens + other.tokens, self.ties + other.ties, self.changed + other.changed
        )

"""How often a kind of match is right: the calibration of n-gram lookup."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smartprof.drafters.suffix_index import MOST_MATCHED

SINGLE, SEVERAL, FURTHER = range(3)  # kinds of evidence, see `EvidenceTable`
KINDS = 3

PRIOR_RATES = (0.15, 0.3, 0.45, 0.55, 0.65, 0.7, 0.75, 0.8)  # by match length, from 1
FURTHER_DISCOUNT = 0.3  # a shorter match matters only where the longer ones were wrong
PRIOR_WEIGHT = 8.0  # observations that a prior rate counts as
LEAST_RATE, MOST_RATE = 0.001, 0.999


def bucket_of(kind: int, matched: int) -> int:
    """Index of the evidence `kind` with a match of `matched` >= 1 tokens."""
    return kind * MOST_MATCHED + matched - 1


class EvidenceTable:
    """Rate, for each bucket of evidence, at which the target's token is among the continuations.

    Buckets: match length 1 ... 8 times three kinds. SINGLE: the longest match has one
    continuation. SEVERAL: it has more. FURTHER: a shorter match consulted for continuations that
    longer ones did not have; its rate is conditional on all of those being wrong.

    Each rate is the mean of a Beta posterior, (prior + hits) / (prior weight + exposure). One child
    exposes its bucket by the share of the bucket's probability that it carries, so a continuation
    that was left out of the tree counts as unknown, not as wrong.
    """

    def __init__(
        self, priors: Sequence[float] | None = None, prior_weight: float = PRIOR_WEIGHT
    ) -> None:
        """priors: a rate per bucket in the order of `bucket_of`; default: `PRIOR_RATES`."""
        self._priors = list(priors) if priors is not None else default_priors()
        if len(self._priors) != KINDS * MOST_MATCHED:
            raise ValueError(
                f"expected {KINDS * MOST_MATCHED} prior rates, got {len(self._priors)}"
            )
        self._prior_weight = prior_weight
        self._frozen = False
        self.reset()

    def reset(self) -> None:
        """Back to the priors; a frozen table stays frozen."""
        self._hits = [self._prior_weight * x for x in self._priors]
        self._exposure = [self._prior_weight] * len(self._priors)
        self.rates = [_bounded(x) for x in self._priors]  # read directly by the lookup, for speed

    def freeze(self) -> None:
        """Ignore further observations, for runs that must not influence each other."""
        self._frozen = True

    @property
    def counts(self) -> NDArray[np.float64]:
        """float64 [2, buckets]: hits and exposure, priors included."""
        return np.array([self._hits, self._exposure])

    @counts.setter
    def counts(self, counts: NDArray[np.float64]) -> None:
        self._hits, self._exposure = counts.tolist()
        self.rates = [_bounded(x / y) for x, y in zip(*counts.tolist(), strict=True)]

    def observe(self, bucket: int, share: float, right: bool) -> None:
        """Count one child, right or wrong. share: its part of its bucket, in (0, 1]."""
        if self._frozen:
            return
        self._hits[bucket] += right
        self._exposure[bucket] += share
        self.rates[bucket] = _bounded(self._hits[bucket] / self._exposure[bucket])


def _bounded(rate: float) -> float:
    """Nothing is certain: a rate of 0 or 1 would leave nothing to share out."""
    return min(max(rate, LEAST_RATE), MOST_RATE)


def default_priors() -> list[float]:
    """Rates by bucket before anything was observed."""
    further = [FURTHER_DISCOUNT * x for x in PRIOR_RATES]
    return [*PRIOR_RATES, *PRIOR_RATES, *further]

"""How far a draft model's probabilities can be trusted, learned while decoding.

A model's softmax says how likely *it* finds a token; decisions need how likely the target is to
choose it. The ratio of the two is learned by ranges of probability.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EDGES = np.array([0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97])  # of the ranges
PRIOR_HITS = 4.0  # expected hits that trust in the model counts as, in each range
MOST = 0.999  # nothing is certain


class Confidence:
    """Hits over expected hits in each range of drafted probability, shrunk towards 1."""

    def __init__(self) -> None:
        self._frozen = False
        self._expected = np.full(len(EDGES) + 1, PRIOR_HITS)
        self._hits = self._expected.copy()

    def freeze(self) -> None:
        """Ignore further observations, for runs that must not influence each other."""
        self._frozen = True

    @property
    def counts(self) -> NDArray[np.float64]:
        """float64 [2, ranges]: hits and expected hits, priors included."""
        return np.stack([self._hits, self._expected])

    @counts.setter
    def counts(self, counts: NDArray[np.float64]) -> None:
        self._hits, self._expected = counts[0].copy(), counts[1].copy()

    def observe(self, probability: NDArray[np.float64], right: NDArray[np.bool_]) -> None:
        """Count proposals below one node on the target's path.

        probability: float64 [k], as the model gave them. right: bool [k], the target's own token.
        """
        if self._frozen:
            return
        place = EDGES.searchsorted(probability)
        np.add.at(self._expected, place, probability)
        np.add.at(self._hits, place, right)

    def calibrated(
        self, parent: NDArray[np.integer], probability: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Probabilities [k] in (0, 1) that the target agrees; siblings sum to at most 1.

        parent: int [k], whose children they are. probability: float64 [k], as the model gave them.
        """
        ratio = self._hits / self._expected
        trusted = np.minimum(probability * ratio[EDGES.searchsorted(probability)], MOST)
        if not trusted.size:
            return trusted
        total = np.bincount(parent, trusted)[parent]
        return trusted / np.maximum(total / MOST, 1.0)

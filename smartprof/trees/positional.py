"""Positional acceptance: how often a draft node is right, by its depth and its rank alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smartprof.trees.forest import SUM_TOLERANCE

DEPTHS, RANKS = "/", "+"  # what separates depths and the ranks of a depth in text


@dataclass(frozen=True)
class PositionalAcceptance:
    """Probability that a node is accepted given that its parent is.

    Chen et al., "Sequoia: Scalable, Robust, and Hardware-aware Speculative Decoding",
    arXiv 2402.12374, where it depends on the rank alone; here on the depth as well.
    rates: per depth from 1, those of the most probable child, the second, ...; the last depth's
    hold for all deeper ones, and ranks that are not given are never accepted.

    Examples
    --------
    >>> PositionalAcceptance.parse("0.7+0.1/0.6").table
    array([[0.7, 0.1],
           [0.6, 0. ]])
    """

    rates: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        """Raise ValueError for what are no probabilities of exclusive events."""
        if not self.rates or not all(self.rates):
            raise ValueError("expected at least one rate for each depth")
        # not "x < 0 or x > 1": that would let NaN through
        if not all(0 <= y <= 1 for x in self.rates for y in x):
            raise ValueError("expected rates from 0 to 1")
        largest = max(map(sum, self.rates))
        if largest > 1 + SUM_TOLERANCE:
            raise ValueError(
                f"expected the ranks of a depth to sum to at most 1, got {largest:.6g}"
            )

    @classmethod
    def parse(cls, text: str) -> PositionalAcceptance:
        """From text such as ``0.7+0.1/0.6``: depths, and in each the rates of its ranks.

        Raises ValueError, one line, for anything else.
        """
        try:
            return cls(tuple(tuple(map(float, x.split(RANKS))) for x in text.split(DEPTHS)))
        except ValueError as error:
            raise ValueError(f"{text!r} is no acceptance such as 0.7+0.1/0.6: {error}") from None

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return DEPTHS.join(RANKS.join(map(repr, x)) for x in self.rates)

    @property
    def table(self) -> NDArray[np.float64]:
        """float64 [depths, ranks]: the rates, 0 for ranks that a depth lacks."""
        table = np.zeros((len(self.rates), max(map(len, self.rates))))
        for row, rates in zip(table, self.rates, strict=True):
            row[: len(rates)] = rates
        return table

"""What the round loop asks of a drafter. Fits a table lookup and a model with a cache alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smartprof.policies.base import Outcome
from smartprof.trees.forest import Children, Forest

if TYPE_CHECKING:
    from smartprof.models.cache import KVCache


class Drafter(ABC):
    """Proposes children of tree nodes, with one state per row of the batch.

    Request i of a forest is row i. A row's committed tokens include its newest one, the root.
    name: what tables print. digest: what a profile is keyed by. kind: "ngram", "model", ...
    taps: layers of the target whose inputs the drafter reads from `KVCache.features`.
    """

    name: str
    digest: str
    kind: str
    taps: tuple[int, ...] = ()

    def attach(self, cache: KVCache) -> None:  # noqa: B027 - a lookup needs nothing of the target
        """Told once, before the first request, of the target's cache; rows are the same.

        Features of a row's committed tokens, all but the root's, lie at the tokens' own slots
        whenever `admit` or `expand` is called.
        """

    @abstractmethod
    def admit(self, row: int, tokens: Sequence[int]) -> None:
        """Start a request in a free row. tokens: all committed so far, the root included."""

    @abstractmethod
    def commit(self, row: int, tokens: Sequence[int]) -> None:
        """Note newly committed tokens, in order. Cheap: taken in at the next root expansion."""

    @abstractmethod
    def release(self, row: int) -> None:
        """Forget a request that has ended."""

    @abstractmethod
    def move(self, source: int, target: int) -> None:
        """Move a request's state to a free row."""

    @abstractmethod
    def expand(self, forest: Forest, nodes: NDArray[np.int64]) -> Children:
        """Children of `nodes`: distinct siblings whose conditionals sum to at most 1.

        Roots: takes the row's noted tokens into its state first (the catch-up). Other nodes: one
        draft step for all of them.
        """

    def learn(self, outcome: Outcome) -> None:  # noqa: B027 - most drafters learn nothing
        """Calibrate from what was verified (`Outcome.reached`) and accepted of this round."""

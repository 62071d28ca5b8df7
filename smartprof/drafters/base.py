"""What the round loop asks of a drafter. Fits a table lookup and a model with a cache alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smartprof.policies.base import Outcome
from smartprof.trees.forest import Children, Forest
from smartprof.trees.reliability import AcceptanceRecord

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

    @property
    def sources(self) -> tuple[str, ...]:
        """What a round may be drafted with, each priced under its name; the fullest comes last."""
        return (self.name,)

    def begin(self, source: str) -> None:  # noqa: B027 - most drafters have one source
        """A round begins that is drafted with this one of the sources."""

    def outlook(self) -> float:
        """Chance that the lookup's best proposal for a root is right, on average over the rows.

        What the choice between several sources may go by; 0 where there is no such choice.
        """
        return 0.0

    def pending(self, source: str) -> int:
        """Committed tokens, over all rows, that the next root expansion with `source` takes in.

        0 for a drafter that keeps nothing.
        """
        return 0

    def part(self, source: str) -> Drafter:
        """The drafter that a source is by itself: its digest and kind belong to its prices."""
        return self

    @property
    def caches(self) -> tuple[KVCache, ...]:
        """Caches of its own."""
        return ()

    def seat(self, row: int, tokens: Sequence[int]) -> None:
        """Start a request as `admit` does, only as far as latency depends on it: for calibration.

        Nothing needs to have been computed for the tokens before the root.
        """
        self.admit(row, tokens)

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

    def freeze(self) -> None:  # noqa: B027 - some drafters learn nothing
        """Learn nothing any more, for runs that must not influence each other."""

    def uncalibrate(self) -> None:  # noqa: B027 - most drafters are not calibrated
        """State probabilities without what calibration learned of them, from now on."""

    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """What it has counted so far to correct its probabilities, by name: float64 [2, k] each.

        Counts of several drafters of one kind may be averaged. Empty if it counts nothing.
        """
        return {}

    def recall(self, statistics: Mapping[str, NDArray[np.float64]]) -> None:
        """Go on from counts that `statistics` gave; also when frozen afterwards.

        Raises KeyError for counts that are absent, ValueError for those of another size.
        """
        for name, found in self.statistics().items():
            if statistics[name].shape != found.shape:
                raise ValueError(f"expected {name} of {found.shape}, got {statistics[name].shape}")

    def record(self) -> AcceptanceRecord | None:
        """How its probabilities held so far; between rounds. None where no record is kept."""
        return None

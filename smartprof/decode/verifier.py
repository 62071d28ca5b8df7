"""What the round loop asks of a target: a model with its cache, or a record of what one said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from smartprof.decode.requests import Progress, Request
from smartprof.drafters.base import Drafter
from smartprof.trees.packed import Accepted, PackedTrees


class Verifier(Protocol):
    """Says what follows the nodes of trees, for the requests of one batch, one in each row."""

    def clock(self) -> float:
        """Seconds, from any start."""

    def synchronise(self) -> None:
        """Wait for the device, so that a clock read next covers the work before it."""

    def attach(self, drafter: Drafter) -> None:
        """Let the drafter read what the target keeps; once, before the first request."""

    def admit(self, row: int, request: Request) -> None:
        """Start a request in a free row."""

    def move(self, source: int, target: int, context_len: int) -> None:
        """Move a request with so many committed tokens to a free row."""

    def choose(
        self,
        rows: Sequence[Progress],
        trees: PackedTrees,
        context_lens: NDArray[np.int64],
        pad_to: int,
    ) -> NDArray[np.int64]:
        """The target's own next token after every tree node: int64 [M].

        rows: the B requests. context_lens: int64 [B]. pad_to: >= M tokens that the pass runs.
        """

    def keep(self, trees: PackedTrees, accepted: Accepted, context_lens: NDArray[np.int64]) -> None:
        """Take the accepted nodes in as committed tokens."""

"""Plain decoding: one token per request and round; the reference for every speedup."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from smartprof.policies.base import NO_NODES, Cut, Policy, Round


class Plain(Policy):
    """Never drafts."""

    name: ClassVar[str] = "plain"
    summary: ClassVar[str] = "one token per request and round: the reference of every speedup"

    def most_nodes(self, batch: int) -> int:
        """None is ever verified."""
        return 0

    def most_rows(self, batch: int, most_tokens: int) -> int:
        """None is ever drafted."""
        return 0

    def grow(self, round: Round) -> NDArray[np.int64]:
        """Nothing, ever."""
        return NO_NODES

    def cut(self, round: Round) -> Cut:
        """The roots alone."""
        return Cut(NO_NODES, round.batch)

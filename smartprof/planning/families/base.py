"""What a family of settings is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

from smartprof.planning.acceptance import Acceptance
from smartprof.planning.settings import PLAIN, Candidate


@dataclass(frozen=True)
class Bounds:
    """The settings that are looked at: most layers, most nodes verified per request, least layers.

    least: above 0, plain decoding is compared with but not chosen.
    """

    depth: int = 8
    nodes: int = 64
    least: int = 0


class Family(ABC):
    """Settings that one server can be given; plain decoding belongs to each."""

    name: ClassVar[str]
    summary: ClassVar[str]

    def candidates(self, acceptance: Acceptance, bounds: Bounds) -> list[Candidate]:
        """Plain decoding first, then from small to large; none deeper than acceptance is known."""
        deepest = bounds.depth if acceptance.deepest is None else acceptance.deepest
        within = replace(bounds, depth=min(bounds.depth, deepest))
        return [PLAIN, *self._settings(acceptance, within)]

    @abstractmethod
    def _settings(self, acceptance: Acceptance, bounds: Bounds) -> list[Candidate]:
        """All settings that speculate."""

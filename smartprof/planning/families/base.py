"""What a family of settings is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from smartprof.planning.acceptance import Acceptance
from smartprof.planning.settings import PLAIN, Candidate


@dataclass(frozen=True)
class Bounds:
    """The largest settings that are looked at: layers, and nodes verified per request."""

    depth: int = 8
    nodes: int = 64


class Family(ABC):
    """Settings that one server can be given; plain decoding belongs to each."""

    name: ClassVar[str]
    summary: ClassVar[str]

    def candidates(self, acceptance: Acceptance, bounds: Bounds) -> list[Candidate]:
        """Plain decoding first, then from small to large; none deeper than acceptance is known."""
        deepest = bounds.depth if acceptance.deepest is None else acceptance.deepest
        within = Bounds(min(bounds.depth, deepest), bounds.nodes)
        return [PLAIN, *self._settings(acceptance, within)]

    @abstractmethod
    def _settings(self, acceptance: Acceptance, bounds: Bounds) -> list[Candidate]:
        """All settings that speculate."""

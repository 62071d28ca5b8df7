"""EAGLE-2's dynamic draft trees: a beam by path probability, then the best nodes of all layers.

Li, Wei, Zhang and Zhang, "EAGLE-2: Faster Inference of Language Models with Dynamic Draft Trees",
arXiv 2406.16858; EAGLE-3, arXiv 2503.01840, keeps the rule with another drafter, and so does MSD,
arXiv 2505.14260, for multimodal targets. Published settings: m 60, depth 5 to 7, k 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smartprof.policies.beam import Beam, beam_width, layers
from smartprof.policies.options import whole


@dataclass(frozen=True)
class Eagle2Options:
    """Size and shape of each request's tree; the same for every request and batch."""

    m: int = whole(16, 1, 512, "verified nodes per request")
    depth: int = layers(4)
    k: int = beam_width(8)


class Eagle2(Beam):
    """Verifies the m best nodes of every request, whatever the batch."""

    name: ClassVar[str] = "eagle2"
    paper: ClassVar[str] = "EAGLE-2, arXiv 2406.16858; also the tree of MSD, arXiv 2505.14260"
    summary: ClassVar[str] = "a beam of k nodes per layer, then each request's m most probable"
    options_type = Eagle2Options
    options: Eagle2Options

    def most_nodes(self, batch: int) -> int:
        """As the options say."""
        return self.options.m

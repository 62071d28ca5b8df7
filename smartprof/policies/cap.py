"""A plain cap on the verify pass: EAGLE-2's tree with a budget shared equally by the batch.

The rule that a hand-set verify budget amounts to by itself, without any model of costs::

    m = floor(budget / B)

most probable nodes of each of B requests, out of EAGLE-2's beam (arXiv 2406.16858). SMART
(arXiv 2604.09731) splits its own budget in the same way, so what `smart-paper` gains over this at
the same budget is what its rule adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smartprof.policies.beam import Beam, beam_width, layers
from smartprof.policies.options import whole


@dataclass(frozen=True)
class CapOptions:
    """The budget, and the beam that candidates come from."""

    budget: int = whole(200, 1, 4096, "verified nodes of the whole batch, roots not counted")
    depth: int = layers(6)
    k: int = beam_width(10)


class Cap(Beam):
    """Shares a fixed number of verified nodes equally; below one per request it decodes plainly."""

    name: ClassVar[str] = "cap"
    paper: ClassVar[str] = "EAGLE-2's tree, arXiv 2406.16858, with m = budget / B"
    summary: ClassVar[str] = "EAGLE-2 with a budget of nodes that the batch shares equally"
    options_type = CapOptions
    options: CapOptions

    def most_nodes(self, batch: int) -> int:
        """The budget's equal share."""
        return self.options.budget // batch

"""A policy of one's own: draft and verify whatever is likely enough, whatever it costs.

smartprof decode --profile PROFILE --policy plain,smart,examples/confident_policy.py:least=0.3
"""

from dataclasses import dataclass

import numpy as np

from smartprof.policies.base import Cut, Policy
from smartprof.policies.options import real, whole


@dataclass(frozen=True)
class ConfidentOptions:
    """How likely is likely enough."""

    least: float = real(0.3, 0.001, 1.0, "path probability of a node worth drafting and verifying")
    depth: int = whole(8, 1, 64, "deepest node")


class Confident(Policy):
    """Knows no costs: compare it with `smart` at batch 1 and at batch 16."""

    name = "confident"
    summary = "every node above a fixed path probability"
    options_type = ConfidentOptions

    def grow(self, round):
        """Expand every leaf that is likely enough and not too deep."""
        forest, leaves = round.forest, round.forest.frontier
        useful = forest.depth[leaves] < round.reach(self.options.depth)[forest.request[leaves]]
        return leaves[useful & (forest.path_prob[leaves] >= self.options.least)]

    def cut(self, round):
        """Verify them; a child is never more probable than its parent, so none is an orphan."""
        forest = round.forest
        useful = forest.depth <= round.reach(self.options.depth)[forest.request]
        chosen = useful & (forest.path_prob >= self.options.least) & (forest.depth > 0)
        return Cut(np.flatnonzero(chosen), round.batch + int(chosen.sum()))

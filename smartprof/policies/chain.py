"""Chains: K tokens on one branch, the shape of the first speculative decoders.

Leviathan, Kalman and Matias, "Fast Inference from Transformers via Speculative Decoding",
arXiv 2211.17192; Chen et al., "Accelerating Large Language Model Decoding with Speculative
Sampling", arXiv 2302.01318. Here with greedy verification.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from smartprof.policies.base import Cut, Policy, Round
from smartprof.policies.options import whole
from smartprof.policies.ranking import rank_within
from smartprof.trees.forest import Forest


@dataclass(frozen=True)
class ChainOptions:
    """How long the branch grows."""

    k: int = whole(4, 1, 64, "tokens on the branch")


class Chain(Policy):
    """Follows each request's most probable child K times and verifies that path."""

    name: ClassVar[str] = "chain"
    paper: ClassVar[str] = "Leviathan et al., arXiv 2211.17192; Chen et al., arXiv 2302.01318"
    summary: ClassVar[str] = "k tokens on one branch, each the most probable child"
    options_type = ChainOptions
    options: ChainOptions

    def most_nodes(self, batch: int) -> int:
        """As the options say."""
        return self.options.k

    def most_rows(self, batch: int, most_tokens: int) -> int:
        """The end of every branch; the first token takes no step of its own."""
        return batch if self.options.k > 1 else 0

    def grow(self, round: Round) -> NDArray[np.int64]:
        """Each branch's end, while it is shorter than K and something was proposed below it."""
        forest = round.forest
        nodes = _branches(forest)
        ends = nodes[~forest.expanded[nodes]]
        return ends[forest.depth[ends] < round.reach(self.options.k)[forest.request[ends]]]

    def cut(self, round: Round) -> Cut:
        """The branches."""
        nodes = _branches(round.forest)[round.batch :]
        return Cut(nodes, round.batch + len(nodes))


def _branches(forest: Forest) -> NDArray[np.int64]:
    """The most probable node of every depth of every request, roots first.

    Only such nodes are expanded, so all nodes of one depth of a request are siblings below the
    branch, and the best of each depth form one path.
    """
    layer = forest.request * (int(forest.depth.max()) + 1) + forest.depth
    return (rank_within(layer, forest.path_prob) == 0).nonzero()[0]

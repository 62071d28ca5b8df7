"""Chains: 1, 2, ... tokens on one branch.

Leviathan, Kalman and Matias, arXiv 2211.17192. What vLLM, TensorRT-LLM, transformers, llama.cpp and
SGLang's adaptive mode can be told.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from smartprof.planning.acceptance import Acceptance
from smartprof.planning.families.base import Bounds, Family
from smartprof.planning.settings import Candidate, DraftTree, Setting


class Chain(Family):
    """A branch of K tokens, each the most probable."""

    name: ClassVar[str] = "chain"
    summary: ClassVar[str] = "the number of tokens on one branch"

    def _settings(self, acceptance: Acceptance, bounds: Bounds) -> list[Candidate]:
        longest = min(bounds.depth, bounds.nodes)
        count = np.arange(longest)
        tree = DraftTree(count - 1, count + 1, np.zeros(longest, np.int64))
        expected = 1.0 + tree.path_probs(acceptance.positional.table).cumsum()
        return [
            Candidate(Setting(k, 1, k), (1,) * (k - 1), tree, float(expected[k - 1]))
            for k in range(1, longest + 1)
        ]

"""Judging proposals by what followed: the record of one row's last tree, keyed by token paths.

Paths and not nodes, because the nodes of a forest belong to all drafters of a round together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from smartprof.trees.forest import Forest

Path = tuple[int, ...]  # tokens below the root; () is the root itself
ProposalT = TypeVar("ProposalT")


class NodePaths:
    """Token paths of the nodes of one round's forest, each worked out once."""

    def __init__(self) -> None:
        self._known: dict[int, Path] = {}

    def of(self, forest: Forest, node: int) -> Path:
        """Tokens from below the root down to the node."""
        if node < forest.num_requests:
            return ()
        path = self._known.get(node)
        if path is None:
            path = (*self.of(forest, int(forest.parent[node])), int(forest.token[node]))
            self._known[node] = path
        return path


class Hindsight(Generic[ProposalT]):
    """What was proposed below which path when a row was last drafted for."""

    def __init__(self) -> None:
        self._proposed: dict[Path, ProposalT] = {}

    def note(self, path: Path, proposal: ProposalT) -> None:
        """Something was proposed below `path`."""
        self._proposed[path] = proposal

    def judge(self, tokens: Sequence[int]) -> Iterator[tuple[ProposalT, int]]:
        """Each proposal on the way that `tokens` took from the root, and the token that followed.

        tokens: committed since the row was drafted for. Forgets all proposals in the end.
        """
        for depth, token in enumerate(tokens):
            proposal = self._proposed.get(tuple(tokens[:depth]))
            if proposal is None:
                break
            yield proposal, token
        self._proposed.clear()

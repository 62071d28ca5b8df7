"""The draft trees of a whole batch as one structure of arrays. Knows nothing of models or costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROOT_PARENT = -1
SUM_TOLERANCE = 1e-9  # rounding allowed in a sum of conditional probabilities


@dataclass(frozen=True, eq=False)
class Children:
    """Tokens proposed below nodes of a forest.

    parent: int32 [k], forest nodes. token: int64 [k], distinct among siblings.
    conditional: float64 [k] in (0, 1], the estimated probability that the target's token after the
    parent is this one; siblings sum to at most 1.

    The plain constructor takes the arrays on trust, because it runs in every draft step of every
    round; `checked` is for producers that are not proven to keep these promises.
    """

    parent: NDArray[np.int32]
    token: NDArray[np.int64]
    conditional: NDArray[np.float64]

    @classmethod
    def checked(cls, parent: ArrayLike, token: ArrayLike, conditional: ArrayLike) -> Children:
        """Children from anything array-like; raises ValueError when a promise above is broken."""
        children = cls(
            np.asarray(parent, np.int32),
            np.asarray(token, np.int64),
            np.asarray(conditional, np.float64),
        )
        children._validate()
        return children

    def _validate(self) -> None:
        if not len(self.parent) == len(self.token) == len(self.conditional):
            raise ValueError(
                "expected one parent, token and probability per child, got "
                f"{len(self.parent)}, {len(self.token)} and {len(self.conditional)}"
            )
        if len(self.parent) == 0:
            return
        if not ((self.conditional > 0) & (self.conditional <= 1)).all():
            raise ValueError("expected conditional probabilities in (0, 1]")
        if self.parent.min() < 0:
            raise ValueError(f"expected forest nodes as parents, got {self.parent.min()}")
        order = np.lexsort((self.token, self.parent))
        parent, token = self.parent[order], self.token[order]
        if ((parent[1:] == parent[:-1]) & (token[1:] == token[:-1])).any():
            raise ValueError("expected distinct siblings: a parent was given one token twice")
        total = np.bincount(self.parent, self.conditional).max()
        if total > 1 + SUM_TOLERANCE:
            raise ValueError(f"expected siblings to sum to at most 1, got {total:.6g}")


NO_CHILDREN = Children(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.float64))


@dataclass(frozen=True, eq=False)
class Forest:
    """Draft trees of B requests; parents always precede children.

    Nodes 0 ... B-1 are the roots: request i's newest committed token is node i, with depth 0, path
    probability 1 and parent -1. For n nodes:
    request: int32 [n]. parent: int32 [n]. token: int64 [n]. depth: int32 [n].
    path_prob: float64 [n], product of the conditionals from the root down.
    expanded: bool [n], whether the drafter was asked for the node's children.
    """

    num_requests: int
    request: NDArray[np.int32]
    parent: NDArray[np.int32]
    token: NDArray[np.int64]
    depth: NDArray[np.int32]
    path_prob: NDArray[np.float64]
    expanded: NDArray[np.bool_]

    @classmethod
    def roots(cls, tokens: NDArray[np.int64]) -> Forest:
        """A forest of roots alone. tokens: int64 [B], the newest committed token per request."""
        batch = len(tokens)
        return cls(
            num_requests=batch,
            request=np.arange(batch, dtype=np.int32),
            parent=np.full(batch, ROOT_PARENT, np.int32),
            token=np.asarray(tokens, np.int64),
            depth=np.zeros(batch, np.int32),
            path_prob=np.ones(batch),
            expanded=np.zeros(batch, np.bool_),
        )

    @property
    def size(self) -> int:
        """Nodes, roots included."""
        return len(self.parent)

    @property
    def frontier(self) -> NDArray[np.int64]:
        """Nodes not expanded, ascending."""
        return (~self.expanded).nonzero()[0]

    def extend(self, nodes: NDArray[np.integer], children: Children) -> Forest:
        """Mark `nodes` expanded and append children at the end, in the order given.

        A child's path probability is its parent's times its conditional.
        """
        expanded = self.expanded.copy()
        expanded[nodes] = True
        parent = children.parent
        if len(parent) == 0:
            return Forest(
                self.num_requests,
                self.request,
                self.parent,
                self.token,
                self.depth,
                self.path_prob,
                expanded,
            )
        path_prob = self.path_prob[parent] * children.conditional
        return Forest(
            self.num_requests,
            np.concatenate([self.request, self.request[parent]]),
            np.concatenate([self.parent, parent]),
            np.concatenate([self.token, children.token]),
            np.concatenate([self.depth, self.depth[parent] + 1]),
            np.concatenate([self.path_prob, path_prob]),
            np.concatenate([expanded, np.zeros(len(parent), np.bool_)]),
        )

    def mask(self, nodes: NDArray[np.integer]) -> NDArray[np.bool_]:
        """bool [n]: the roots and `nodes`."""
        chosen = np.zeros(self.size, np.bool_)
        chosen[: self.num_requests] = True
        chosen[nodes] = True
        return chosen

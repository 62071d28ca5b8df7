"""Labels in hindsight: everything that was proposed in a round, judged by the tokens that followed.

Every child of a node on the target's own path is judged, verified or not. Judging only what was
verified would never correct a probability that is too low to be chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smartprof.trees.acceptance import Labelled
from smartprof.trees.forest import Children, Forest


class DraftedRound:
    """The proposals of one round, node by node of its forest, and what followed each root.

    Relies on a round's children being appended to its forest in the order of the proposals.
    Requests are told apart by their rows, which may change after the round.
    """

    def __init__(self, num_requests: int) -> None:
        self._roots = num_requests
        self._request_of = {x: x for x in range(num_requests)}  # by present row
        self._deepest = 0
        self._children: list[Children] = []
        self._request: list[NDArray[np.int32]] = []
        self._depth: list[NDArray[np.int32]] = []
        self._size = num_requests
        self._followed: list[list[int]] = [[] for _ in range(num_requests)]

    def note(self, forest: Forest, children: Children) -> None:
        """Take in what was proposed below nodes of `forest`, with the probabilities stated.

        Raises ValueError if the forest is not that of the earlier proposals.
        """
        if forest.size != self._size:
            raise ValueError(
                f"expected a forest of {self._size} nodes, all that was proposed, got {forest.size}"
            )
        self._children.append(children)
        self._request.append(forest.request[children.parent])
        self._depth.append(forest.depth[children.parent] + 1)
        self._size += len(children.parent)
        self._deepest = max(self._deepest, int(self._depth[-1].max(initial=0)))

    def follow(self, row: int, tokens: Sequence[int]) -> None:
        """Take in tokens that a row committed, in order; of a row that came later, nothing."""
        if row in self._request_of:
            followed = self._followed[self._request_of[row]]
            followed.extend(tokens[: self._deepest - len(followed)])

    def release(self, row: int) -> None:
        """Its request has ended."""
        self._request_of.pop(row, None)

    def move(self, source: int, target: int) -> None:
        """A request has another row now."""
        if source in self._request_of:
            self._request_of[target] = self._request_of.pop(source)

    def labelled(self) -> Labelled:
        """The proposals whose place the target has reached and gone beyond."""
        if self._size == self._roots or not any(self._followed):
            return Labelled.joined([])
        parent = np.concatenate([x.parent for x in self._children])
        request, depth = np.concatenate(self._request), np.concatenate(self._depth)
        target_token, known = self._followed_at(request, depth)
        right = known & (np.concatenate([x.token for x in self._children]) == target_token)
        on_path = np.concatenate([np.ones(self._roots, np.bool_), right])
        for level in range(2, self._deepest + 1):
            nodes = (depth == level).nonzero()[0]
            on_path[self._roots + nodes] &= on_path[parent[nodes]]
        judged = known & on_path[parent]
        stated = np.concatenate([x.conditional for x in self._children])
        return Labelled.of(parent[judged], stated[judged], depth[judged], right[judged])

    def _followed_at(
        self, request: NDArray[np.int32], depth: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The target's token at a depth [k] of a request [k], and whether it is known yet."""
        lengths = np.array([len(x) for x in self._followed])
        table = np.zeros((self._roots, int(lengths.max())), np.int64)
        for row, tokens in enumerate(self._followed):
            table[row, : len(tokens)] = tokens
        place = np.minimum(depth, table.shape[1]) - 1
        return table[request, place], depth <= lengths[request]

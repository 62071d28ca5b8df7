"""The nodes of one verify pass, request by request, and what the target accepts of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from smartprof.trees.forest import Forest


@dataclass(frozen=True, eq=False)
class PackedTrees:
    """M chosen nodes of a forest, roots included, sorted by request, each tree depth first.

    Within a request parents precede children and the more probable sibling comes first, so that
    the path most likely to be accepted already lies in order behind the root.
    request, token, depth: int64 [M]. parent: int64 [M], packed index, -1 for roots.
    node: int64 [M], forest index. counts: int64 [B], nodes per request.
    """

    request: NDArray[np.int64]
    token: NDArray[np.int64]
    depth: NDArray[np.int64]
    parent: NDArray[np.int64]
    node: NDArray[np.int64]
    counts: NDArray[np.int64]

    @cached_property
    def offset(self) -> NDArray[np.int64]:
        """int64 [B]: packed index of each request's root."""
        return self.counts.cumsum() - self.counts

    @cached_property
    def slot(self) -> NDArray[np.int64]:
        """int64 [M]: index within the request, 0 for its root."""
        return np.arange(len(self.node)) - self.offset[self.request]

    @cached_property
    def lineage(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Every pair of a node and one of its ancestors or itself: packed indices, int64 [p] each.

        Ordered by how far the ancestor is above; first every node with itself.
        """
        node = ancestor = np.arange(len(self.node))
        pairs = []
        while node.size:  # one turn per depth
            pairs.append((node, ancestor))
            above = self.parent[ancestor]
            node, ancestor = node[above >= 0], above[above >= 0]
        nodes, ancestors = zip(*pairs, strict=True)
        return np.concatenate(nodes), np.concatenate(ancestors)

    def ancestor_mask(self, max_count: int) -> NDArray[np.bool_]:
        """bool [B, n, n] for n = max_count: query slot x key slot, true for ancestors and self.

        Queries beyond a request's count see its root alone, so that no row is empty.
        """
        mask = np.zeros((len(self.counts), max_count, max_count), np.bool_)
        mask[:, :, 0] = True
        query, ancestor = self.lineage
        mask[self.request[query], self.slot[query], self.slot[ancestor]] = True
        return mask


@dataclass(frozen=True, eq=False)
class Accepted:
    """What a verify pass yields per request.

    paths: B arrays of packed indices, the accepted nodes from depth 1 down, root excluded.
    bonus: int64 [B], the target's own token after the last accepted node.
    """

    paths: list[NDArray[np.int64]]
    bonus: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 [B]: accepted draft tokens."""
        return np.array([len(x) for x in self.paths], np.int64)


def pack(forest: Forest, nodes: NDArray[np.integer]) -> PackedTrees:
    """The roots and `nodes` (any order, roots optional) as one packed pass.

    Raises ValueError when the choice is not prefix-closed: a node without its parent.
    """
    chosen = forest.mask(nodes).nonzero()[0]  # ascending, so parents precede children
    place = np.full(forest.size + 1, -1)  # the last entry answers for the parent of roots, -1
    place[chosen] = np.arange(len(chosen))
    parent = place[forest.parent[chosen]]
    batch = forest.num_requests
    if (parent[batch:] < 0).any():
        orphan = chosen[batch:][parent[batch:] < 0][0]
        raise ValueError(f"expected a prefix-closed choice, got node {orphan} without its parent")
    depth = forest.depth[chosen]
    position = _depth_first(parent, depth, forest.path_prob[chosen], batch)
    order = np.empty_like(position)
    order[position] = np.arange(len(position))
    above = parent[order]
    node = chosen[order]
    request = forest.request[node].astype(np.int64)
    return PackedTrees(
        request=request,
        token=forest.token[node],
        depth=depth[order].astype(np.int64),
        parent=np.where(above < 0, -1, position[above]),
        node=node,
        counts=np.bincount(request, minlength=batch),
    )


def accept(packed: PackedTrees, target_token: NDArray[np.int64]) -> Accepted:
    """Verification by the target's own tokens alone, whether the largest or sampled ones.

    target_token: int64 [M], the target's choice after each packed node. From each root the path
    follows the child that carries the target's token; the bonus is the target's token at its end.
    Siblings are distinct, so at most one child matches.
    """
    on_path = packed.parent < 0
    matching = ~on_path & (packed.token == target_token[packed.parent])
    reached = matching & (packed.depth == 1)
    depth = 1
    while reached.any():  # one turn per accepted depth
        on_path |= reached
        depth += 1
        reached = matching & on_path[packed.parent] & (packed.depth == depth)
    path = on_path.nonzero()[0]  # packed order is ascending in depth within a request
    ends = np.bincount(packed.request[path], minlength=len(packed.counts)).cumsum()
    bounds = [0, *ends.tolist()]
    paths = [path[start + 1 : end] for start, end in pairwise(bounds)]
    return Accepted(paths, target_token[path[ends - 1]])


def _depth_first(
    parent: NDArray[np.int64], depth: NDArray[np.int32], prob: NDArray[np.float64], batch: int
) -> NDArray[np.int64]:
    """Depth-first position of each node, likelier siblings first; parents precede children.

    parent: int64 [M], -1 for the first `batch` nodes, which are roots.
    """
    levels = [(depth == x).nonzero()[0] for x in range(1, int(depth.max()) + 1)]
    subtree = np.ones(len(parent), np.int64)
    for level in reversed(levels):
        np.add.at(subtree, parent[level], subtree[level])
    position = np.zeros(len(parent), np.int64)
    position[:batch] = subtree[:batch].cumsum() - subtree[:batch]
    for level in levels:
        ranked = level[np.lexsort((-prob[level], parent[level]))]
        before = subtree[ranked].cumsum() - subtree[ranked]  # nodes of earlier ranked subtrees
        above = parent[ranked]
        first = np.searchsorted(above, above)  # each sibling group's first place in `ranked`
        position[ranked] = position[above] + 1 + before - before[first]
    return position

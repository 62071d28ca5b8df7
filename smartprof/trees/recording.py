"""Wide draft trees below every output position of some requests, and what the target said there.

Outputs do not depend on the policy, so what any policy would have drafted, verified and had
accepted can be read from these trees, as far as they were drafted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from smartprof.errors import InputError
from smartprof.trees.forest import SUM_TOLERANCE

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Facts:
    """Where a recording comes from.

    target, drafter: names. digest: of the drafter. sampling: how tokens were chosen, in words.
    workload: of the prompts, in words. width, depth: nodes expanded per layer and layers of every
    tree. profile: checksum of the profile of the run, which priced nothing of the trees.
    """

    target: str
    drafter: str
    digest: str
    sampling: str
    workload: str
    width: int
    depth: int
    profile: str


@dataclass(frozen=True, eq=False)
class Recording:
    """R requests with T output tokens in all, S sources of the drafter, N nodes.

    sources: S names, the cheapest first. taken_by_outlook: bool [S], whether asking a lookup for
    its outlook makes the source take in what was committed.
    prompt, category, split: str [R]. prompt_tokens, most_new: int64 [R], tokens of the prompt, and
    of the output at most. pending: int64 [R, S], tokens that a source has yet to take in after the
    request was admitted.
    output_start: int64 [R + 1]; request r has the output tokens ``output_start[r]`` up to
    ``output_start[r + 1]`` of output: int64 [T].
    tree_start: int64 [T * S + 1]; the tree drafted by source s where output token t was to be
    chosen is t * S + s, and has the nodes from its own start up to that of the next tree. Its root
    is the token before; the drafter was asked for the children of every root.
    parent: int64 [N], 0 for the root, k for the k-th node of the same tree, counted from 1; never
    falling within a tree, so children of a node lie together, in the order proposed. token: int64
    [N]. conditional: float64 [N] in (0, 1], as the drafter said. asked: bool [N], whether the
    drafter was asked for the node's children: one that was and has none got none, of one that was
    not nothing is known.
    """

    facts: Facts
    sources: tuple[str, ...]
    taken_by_outlook: Flags
    prompt: NDArray[np.str_]
    category: NDArray[np.str_]
    split: NDArray[np.str_]
    prompt_tokens: Ids
    most_new: Ids
    pending: Ids
    output_start: Ids
    output: Ids
    tree_start: Ids
    parent: Ids
    token: Ids
    conditional: NDArray[np.float64]
    asked: Flags

    @property
    def requests(self) -> int:
        """R."""
        return len(self.prompt)

    @property
    def trees(self) -> int:
        """T * S."""
        return len(self.tree_start) - 1

    @cached_property
    def tree(self) -> Ids:
        """int64 [N]: which tree each node is in."""
        return np.repeat(np.arange(self.trees), np.diff(self.tree_start))

    @cached_property
    def above(self) -> Ids:
        """int64 [N]: each node's parent among all nodes; for children of tree t's root, N + t."""
        own = self.tree_start[self.tree] + self.parent - 1
        return np.where(self.parent > 0, own, len(self.parent) + self.tree)

    @cached_property
    def child_count(self) -> Ids:
        """int64 [N + T * S]: children of every node, then of every root; -1: not asked for."""
        count = np.bincount(self.above, minlength=len(self.asked) + self.trees)
        count[: len(self.asked)][~self.asked] = -1
        return count

    @cached_property
    def first_child(self) -> Ids:
        """int64 [N + T * S]: the first child of every node, then of every root, if it has any."""
        first = np.zeros(len(self.child_count), np.int64)
        starts = np.flatnonzero(np.diff(self.above, prepend=-1))
        first[self.above[starts]] = starts
        return first

    def validate(self, name: str) -> None:
        """Raise InputError, one line that begins with `name`, where a promise above is broken."""
        for fault in (self._faulty_sizes(), self._faulty_starts()):
            _require(not fault, name, fault)
        _require(self._parents_fit(), name, "a node has no parent before it in its tree")
        inner = self.above[self.parent > 0]
        _require(self.asked[inner].all(), name, "a node has children that nobody asked for")
        _require(self._probabilities_fit(), name, "conditional probabilities are none")
        order = np.lexsort((self.token, self.above))
        pairs = np.stack([self.above[order], self.token[order]])
        twins = (pairs[:, 1:] == pairs[:, :-1]).all(axis=0).any()
        _require(not twins, name, "two siblings have the same token")

    def _faulty_sizes(self) -> str:
        """What is wrong with the lengths of the arrays; empty if nothing is."""
        requests, tokens, sources = self.requests, len(self.output), len(self.sources)
        wanted = {
            "category": (requests,),
            "split": (requests,),
            "prompt_tokens": (requests,),
            "most_new": (requests,),
            "pending": (requests, sources),
            "taken_by_outlook": (sources,),
            "output_start": (requests + 1,),
            "tree_start": (tokens * sources + 1,),
            **{x: self.parent.shape for x in ("token", "conditional", "asked")},
        }
        for field, shape in wanted.items():
            found = getattr(self, field).shape
            if found != shape:
                return f"{field} has shape {found} where {shape} belongs to the other arrays"
        return "" if requests and sources else "it holds no request or no source"

    def _faulty_starts(self) -> str:
        """What is wrong with offsets and counts; empty if nothing is."""
        for field, end in (("output_start", len(self.output)), ("tree_start", len(self.parent))):
            starts = getattr(self, field)
            if starts[0] != 0 or starts[-1] != end or (np.diff(starts) < 0).any():
                return f"{field} does not rise from 0 to {end}"
        lengths = np.diff(self.output_start)
        if (lengths < 1).any() or (lengths > self.most_new).any():
            return "an output is empty or longer than was asked for"
        if min(self.output.min(), self.token.min(initial=0)) < 0:
            return "a token is negative"
        counts = min(self.prompt_tokens.min(), self.facts.width, self.facts.depth)
        return "" if counts >= 1 and self.pending.min() >= 0 else "a count is out of bounds"

    def _parents_fit(self) -> bool:
        place = np.arange(len(self.parent)) - self.tree_start[self.tree]
        same = np.diff(self.tree) == 0
        return bool(
            ((self.parent >= 0) & (self.parent <= place)).all()
            and (np.diff(self.parent)[same] >= 0).all()
        )

    def _probabilities_fit(self) -> bool:
        if not len(self.conditional):
            return True
        total = np.bincount(self.above, self.conditional).max()
        within = (self.conditional > 0) & (self.conditional <= 1)  # false for NaN
        return bool(within.all() and total <= 1 + SUM_TOLERANCE)


def _require(fits: bool | np.bool_, name: str, fault: str) -> None:
    if not fits:
        raise InputError(f"{name}: expected a sound recording of trees, but {fault}: record again")

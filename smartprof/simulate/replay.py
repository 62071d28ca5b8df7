"""Replaying a recording: a drafter that proposes what was recorded, never anything else.

When a replay is exact. Requests arrive in the same order with the same costs, and the drafter's
proposals depend on a request's own tokens and the node's path alone (a frozen drafter; one that
learns had learned from every position when it was recorded). Then every round has the same trees,
accepted and committed tokens, and modelled seconds as decoding, as long as nothing is missing.
Two details: nodes of equal path probability may change places if the drafter does not answer in
the order of the nodes asked, and behind the end of an output no node is marked accepted.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from smartprof.simulate.world import END, Ids, SimulatedDrafter, SimulatedRequest, SimulatedTarget
from smartprof.trees.forest import Children, Forest
from smartprof.trees.recording import Recording


class RecordedWorld:
    """The requests of a recording."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    @property
    def label(self) -> str:
        """Whose acceptance it is."""
        facts = self.recording.facts
        return (
            f"acceptance recorded of {facts.target} with {facts.drafter} "
            f"({facts.workload}, {facts.sampling}; width {facts.width}, depth {facts.depth})"
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """As recorded."""
        return self.recording.sources

    @cached_property
    def requests(self) -> list[SimulatedRequest]:
        """As recorded, in their order."""
        recording = self.recording
        lengths = np.diff(recording.output_start).tolist()
        return [
            SimulatedRequest(
                prompt_id=str(recording.prompt[x]),
                category=str(recording.category[x]),
                split=str(recording.split[x]),
                tokens=(0,) * int(recording.prompt_tokens[x]),
                max_new_tokens=int(recording.most_new[x]),
                number=x,
                length=length,
            )
            for x, length in enumerate(lengths)
        ]

    def says(self, number: Ids, place: Ids) -> Ids:
        """The recorded output."""
        recording = self.recording
        at = recording.output_start[number] + place
        known = (place >= 0) & (at < recording.output_start[number + 1])
        return np.where(known, recording.output[np.where(known, at, 0)], END)

    def drafter(self, target: SimulatedTarget) -> RecordedDrafter:
        """Proposes what was recorded."""
        return RecordedDrafter(self, target)

    @cached_property
    def right_nodes(self) -> Ids:
        """int64 [T * S]: how many nodes of each tree are on the target's own path."""
        recording = self.recording
        place = recording.tree // len(recording.sources)  # of the token that the node would be
        end = np.repeat(recording.output_start[1:], np.diff(recording.output_start))[place]
        count = np.zeros(recording.trees, np.int64)
        layer = (recording.parent == 0).nonzero()[0]
        depth = 0
        while layer.size:  # one turn per layer
            at = place[layer] + depth
            known = at < end[layer]
            said = np.where(known, recording.output[np.where(known, at, 0)], END)
            right = layer[recording.token[layer] == said]
            np.add.at(count, recording.tree[right], 1)
            layer, depth = self._children(right), depth + 1
        return count

    @cached_property
    def best_below_root(self) -> NDArray[np.float64]:
        """float64 [T * S]: the most probable child of each tree's root; 0 where it has none."""
        recording = self.recording
        best = np.zeros(recording.trees)
        first = recording.parent == 0
        np.maximum.at(best, recording.tree[first], recording.conditional[first])
        return best

    def _children(self, nodes: Ids) -> Ids:
        count = np.maximum(self.recording.child_count[nodes], 0)
        return runs(self.recording.first_child[nodes], count)


class RecordedDrafter(SimulatedDrafter):
    """Proposes the recorded children; none below nodes whose children were not asked for.

    These count as missing. The outlook is the best recorded proposal of the first source below
    each root.
    """

    def __init__(self, world: RecordedWorld, target: SimulatedTarget) -> None:
        super().__init__(world, target)
        self._world, self._recording = world, world.recording
        self._nodes: Ids = np.zeros(0, np.int64)  # of the recording, by node of the forest

    def pending_of(self, number: int) -> Ids:
        """As recorded."""
        return self._recording.pending[number]

    def outlook(self) -> float:
        """The mean over the rows; 0 where there is no choice between sources."""
        if len(self.sources) == 1:
            return 0.0
        for seat in self.seats.values():
            seat.noted[self._recording.taken_by_outlook] = 0
        trees = self._trees(0)[list(self.seats)]
        best = self._world.best_below_root[trees].tolist()
        return sum(best) / len(best) if best else 0.0

    def right_below(self, source: str) -> Ids:
        """Of the trees recorded here."""
        return self._world.right_nodes[self._trees(self.sources.index(source))]

    def expand(self, forest: Forest, nodes: Ids) -> Children:
        """What was recorded below the nodes, in their order."""
        if forest.size == forest.num_requests:
            self._nodes = len(self._recording.parent) + self._trees(self.source)
        self.take_in(nodes[nodes < forest.num_requests])
        recorded = self._nodes[nodes]
        count = self._recording.child_count[recorded]
        self.asked += len(nodes)
        self.missing += int((count < 0).sum())
        count = np.maximum(count, 0)
        children = runs(self._recording.first_child[recorded], count)
        self._nodes = np.concatenate([self._nodes, children])
        return Children(
            np.repeat(nodes, count).astype(np.int32),
            self._recording.token[children],
            self._recording.conditional[children],
        )

    def _trees(self, source: int) -> Ids:
        """int64 [B]: the tree of each row's position."""
        token = self._recording.output_start[self.numbers] + self.positions
        return token * len(self.sources) + source


def runs(first: Ids, count: Ids) -> Ids:
    """``first[0], first[0] + 1, ...``, `count[0]` of them, and so on: int64 [sum of count]."""
    before = count.cumsum() - count
    return np.repeat(first - before, count) + np.arange(int(count.sum()))

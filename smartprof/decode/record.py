"""Recording wide draft trees at every output position, for the simulation of policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from smartprof.decode.requests import Progress, Request
from smartprof.decode.rounds import Decoder, Draft
from smartprof.decode.stops import Detokenise
from smartprof.decode.verifier import Verifier
from smartprof.drafters.base import Drafter
from smartprof.errors import InputError
from smartprof.policies.base import Round
from smartprof.policies.eagle2 import Eagle2, Eagle2Options
from smartprof.policies.plain import Plain
from smartprof.policies.static import Static, StaticOptions
from smartprof.profile.cost import Costs
from smartprof.trees.forest import Forest
from smartprof.trees.recording import Facts, Recording
from smartprof.trees.shape import TreeShape

MOST_WIDTH = MOST_DEPTH = 64
MOST_EXPANDED = 256  # nodes of a tree beside its root: what the cache of a draft network holds


@dataclass(frozen=True)
class TraceSize:
    """Of every recorded tree: nodes expanded per layer, and layers.

    Expanded are the most probable nodes of the layer, and the best child of the best child and so
    on where it is not among them. Raises InputError for what cannot be drafted whole.
    """

    width: int
    depth: int

    def __post_init__(self) -> None:
        within = 1 <= self.width <= MOST_WIDTH and 1 <= self.depth <= MOST_DEPTH
        if not within or (self.width + 1) * (self.depth - 1) > MOST_EXPANDED:
            raise InputError(
                f"expected --trace-width W and --trace-depth D of 1 to {MOST_WIDTH} with (W + 1) * "
                f"(D - 1) at most {MOST_EXPANDED}, got {self.width} and {self.depth}"
            )


@dataclass(frozen=True, eq=False)
class WideTree:
    """One tree as a recording has it: arrays [n] over its nodes."""

    parent: NDArray[np.int64]
    token: NDArray[np.int64]
    conditional: NDArray[np.float64]
    asked: NDArray[np.bool_]


@dataclass
class _Log:
    """Of one request. pending: by source, after admission. trees: by position, then by source."""

    pending: list[int]
    trees: list[WideTree] = field(default_factory=list)


class Recorder(Decoder):
    """Plain decoding that drafts wide trees beside it, with every source, and verifies none.

    The round is forced to reject: whatever was drafted, it commits the target's own token. No node
    for which the request has no room is drafted below the first layer. Drafters that learn learn
    from every position.
    """

    def __init__(
        self,
        target: Verifier,
        drafter: Drafter,
        costs: Costs,
        eos: frozenset[int],
        size: TraceSize,
        detokenise: Detokenise | None = None,
    ) -> None:
        super().__init__(target, drafter, Plain(), costs, eos, detokenise)
        self._beam = Eagle2(Eagle2Options(m=1, depth=size.depth, k=size.width))
        self._branch = Static(StaticOptions(tree=TreeShape.of([[1]] * size.depth)))
        self._logs: dict[int, _Log] = {}
        self._taken_by_outlook = np.zeros(len(drafter.sources), np.bool_)

    def admit(self, request: Request, index: int) -> float:
        """Also notes what the sources have yet to take in of the prompt."""
        before = self._pending()
        seconds = super().admit(request, index)
        added = self._pending() - before
        self._logs[index] = _Log(added.tolist())
        return seconds

    def recording(self, finished: Sequence[Progress], facts: Facts) -> Recording:
        """What was recorded of requests that have ended, in the order of their arrival."""
        done = sorted(finished, key=lambda x: x.index)
        logs = [self._logs[x.index] for x in done]
        trees = [y for x in logs for y in x.trees]
        return Recording(
            facts=facts,
            sources=self.drafter.sources,
            taken_by_outlook=self._taken_by_outlook.copy(),
            prompt=np.array([x.request.prompt_id for x in done]),
            category=np.array([x.request.category for x in done]),
            split=np.array([x.request.split for x in done]),
            prompt_tokens=np.array([len(x.request.tokens) for x in done]),
            most_new=np.array([x.request.max_new_tokens for x in done]),
            pending=np.array([x.pending for x in logs]),
            output_start=_starts([len(x.output) for x in done]),
            output=np.array([y for x in done for y in x.output]),
            tree_start=_starts([len(x.parent) for x in trees]),
            parent=np.concatenate([x.parent for x in trees]),
            token=np.concatenate([x.token for x in trees]),
            conditional=np.concatenate([x.conditional for x in trees]),
            asked=np.concatenate([x.asked for x in trees]),
        )

    def _pending(self) -> NDArray[np.int64]:
        return np.array([self.drafter.pending(x) for x in self.drafter.sources])

    def _draft(self, context_lens: NDArray[np.int64]) -> tuple[Draft, Round]:
        """Nothing for this round; trees of all sources for the record."""
        draft, plain = super()._draft(context_lens)
        wide = replace(plain, room=np.maximum(plain.room, 2))  # the outlook needs one layer
        sources = self.drafter.sources
        if len(sources) > 1:  # one alone is never chosen by its outlook
            before = self._pending()
            self.drafter.outlook()
            self._taken_by_outlook |= self._pending() < before
        for source in sources:
            self.drafter.begin(source)
            for row, tree in zip(self.rows, self._wide_trees(wide), strict=True):
                self._logs[row.index].trees.append(tree)
        return draft, plain

    def _wide_trees(self, state: Round) -> list[WideTree]:
        """One for each request."""
        forest, conditional = state.forest, [np.ones(state.batch)]
        while (nodes := self._grow(replace(state, forest=forest))).size:
            children = self.drafter.expand(forest, nodes)
            forest = forest.extend(nodes, children)
            conditional.append(children.conditional)
        stated = np.concatenate(conditional)
        return [_tree_of(forest, stated, x) for x in range(state.batch)]

    def _grow(self, state: Round) -> NDArray[np.int64]:
        """EAGLE-2's beam, and the branch of best children, which may fall out of the beam."""
        beam, branch = (x.grow(state) for x in (self._beam, self._branch))
        return np.union1d(beam, branch)


def _tree_of(forest: Forest, conditional: NDArray[np.float64], request: int) -> WideTree:
    """One request's part of a forest, layer by layer, nodes of a layer ordered by their parents."""
    own = forest.request == request
    place = np.zeros(forest.size, np.int64)
    layers = [np.zeros(0, np.int64)]
    for depth in range(1, int(forest.depth[own].max()) + 1):
        layer = (own & (forest.depth == depth)).nonzero()[0]
        layer = layer[np.argsort(place[forest.parent[layer]], kind="stable")]
        place[layer] = 1 + sum(map(len, layers)) + np.arange(len(layer))
        layers.append(layer)
    nodes = np.concatenate(layers)
    return WideTree(
        parent=place[forest.parent[nodes]],
        token=forest.token[nodes],
        conditional=conditional[nodes],
        asked=forest.expanded[nodes],
    )


def _starts(lengths: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

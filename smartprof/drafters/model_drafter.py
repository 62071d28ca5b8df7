"""What drafters with a network and a key-value cache of their own have in common.

The cache holds committed tokens; nodes of the present tree lie behind them and are overwritten in
the next round, when the accepted ones come in again as committed tokens. Everything is batched over
ragged rows: a catch-up is one pass over what all rows noted, a draft step one pass over all nodes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smartprof.drafters.base import Drafter
from smartprof.drafters.confidence import Confidence
from smartprof.drafters.hindsight import Hindsight, NodePaths
from smartprof.models.cache import KVCache
from smartprof.models.execution import EAGER, Execution
from smartprof.models.inputs import InputLayout, Tokens
from smartprof.models.runners import PassRunner
from smartprof.models.shapes import ModelShape
from smartprof.models.static_pass import PassFunction
from smartprof.trees.forest import NO_CHILDREN, Children, Forest

WIDTH = 8  # most children of a node
LEAST = 0.005  # conditional probability below which a child is not worth its row anywhere
TREE_SLOTS = 256  # nodes per request that one round can expand; others get no children
CONFIDENCE = "confidence"  # name of its counts
CHUNK = 256  # tokens per request of one pass: bounds the mask and the activations

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Proposal:
    """What the network found likely below one node: token int64 [k], probability float64 [k]."""

    token: Ids
    probability: NDArray[np.float64]


@dataclass
class Row:
    """One request.

    entries: committed tokens in the cache. noted: those not yet taken in. used: nodes of the
    present tree in the cache. output: the network's at the newest token taken in, [hidden].
    """

    entries: int = 0
    noted: list[int] = field(default_factory=list)
    used: int = 0
    output: Tensor | None = None
    hindsight: Hindsight[Proposal] = field(default_factory=Hindsight)


class ModelDrafter(Drafter):
    """Proposes the tokens that a small network finds most likely, with calibrated probabilities.

    A node's children are the `width` most probable tokens; their probabilities are the network's,
    corrected by how often it was right at such a probability (`Confidence`); those below `least`
    are left out. A subclass says what the network is: how a pass runs (`_open`, `_committed`,
    `_drafted`) and how its outputs become scores (`_scores`).
    """

    kind = "model"
    skipped = 0  # first tokens of a request that have no cache entry of their own

    def __init__(
        self,
        shape: ModelShape,
        digest: str,
        width: int = WIDTH,
        least: float = LEAST,
        execution: Execution = EAGER,
    ) -> None:
        """shape: of the layers that the cache serves. digest: of the network."""
        self.shape, self.width, self.least = shape, width, least
        self.digest = f"{digest}-width{width}-least{least:g}"
        self.execution = execution
        self.confidence = Confidence()
        self.cache: KVCache | None = None
        self._rows: dict[int, Row] = {}
        self._paths = NodePaths()
        self._slots: Ids = np.zeros(0, np.int64)  # of the forest's nodes; -1: not in the cache

    @abstractmethod
    def _open(self, cache: KVCache) -> None:
        """Make ready to run passes over this cache."""

    @abstractmethod
    def _committed(self, tokens: Tokens) -> Tensor:
        """Run committed tokens; outputs [M, hidden]. Keys and values enter the cache."""

    @abstractmethod
    def _drafted(self, tokens: Tokens, parent: Ids) -> tuple[Tensor, Tensor]:
        """Run tree nodes below expanded ones; outputs and scores, [M, ...] each.

        parent: int64 [M], `_place` of each node's parent.
        """

    @abstractmethod
    def _scores(self, outputs: Tensor) -> Tensor:
        """Scores of the draft tokens, [M, draft vocabulary]."""

    def _target_ids(self, draft_ids: Tensor) -> Tensor:
        """The target's ids of draft tokens."""
        return draft_ids

    def _keep(self, place: Ids, outputs: Tensor) -> None:
        """Remember outputs [k, hidden] of roots and nodes at `place`, int64 [k]."""

    @property
    def caches(self) -> tuple[KVCache, ...]:
        """The network's."""
        return (self.cache,) if self.cache is not None else ()

    def seat(self, row: int, tokens: Sequence[int]) -> None:
        """Pretend that all tokens but the root are in the cache."""
        known = list(tokens[self.skipped :])
        self._rows[row] = Row(entries=max(0, len(known) - 1), noted=known[-1:])

    @property
    def _device(self) -> torch.device:
        assert self.cache is not None
        return self.cache.device

    def attach(self, cache: KVCache) -> None:
        """Make a cache of the same rows, with room for a tree behind the target's tokens."""
        capacity = self.execution.capacity(cache.capacity + TREE_SLOTS)
        data = cache.data
        self.cache = KVCache(self.shape, cache.batch, capacity, data.dtype, data.device)
        self._open(self.cache)

    def _runner(self, function: PassFunction, layout: InputLayout, name: str) -> PassRunner:
        """A runner of passes over this cache, captured where passes are."""
        assert self.cache is not None
        return self.execution.runner(function, self.cache, layout, name)

    @torch.inference_mode()
    def admit(self, row: int, tokens: Sequence[int]) -> None:
        """Take in a request's tokens but the root at once: they belong to prefill."""
        known = list(tokens[self.skipped :])
        self._rows[row] = Row(noted=known[-1:])
        for start in range(0, len(known) - 1, CHUNK):
            self._take_in({row: known[:-1][start : start + CHUNK]})

    def commit(self, row: int, tokens: Sequence[int]) -> None:
        """Note tokens for the next root expansion."""
        self._rows[row].noted.extend(tokens)

    def release(self, row: int) -> None:
        """Forget a request."""
        del self._rows[row]

    def move(self, source: int, target: int) -> None:
        """Copy a request's part of the cache to another row."""
        assert self.cache is not None
        self._rows[target] = self._rows.pop(source)
        self.cache.move_row(source, target, self._rows[target].entries)

    def pending(self, source: str) -> int:
        """Tokens noted since the last root expansion."""
        return sum(len(x.noted) for x in self._rows.values())

    def freeze(self) -> None:
        """Trust the network as now."""
        self.confidence.freeze()

    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """Hits and expected hits by range of probability."""
        return {CONFIDENCE: self.confidence.counts}

    def recall(self, statistics: Mapping[str, NDArray[np.float64]]) -> None:
        """Trust as it was learned."""
        super().recall(statistics)
        self.confidence.counts = statistics[CONFIDENCE]

    @torch.inference_mode()
    def expand(self, forest: Forest, nodes: Ids) -> Children:
        """The most probable tokens below every node."""
        if forest.size == forest.num_requests:
            self._begin_round()
        self._grow_slots(forest.size)
        roots, others = nodes[nodes < forest.num_requests], nodes[nodes >= forest.num_requests]
        found = []
        if roots.size:
            found.append(self._expand_roots(forest, roots))
        if others.size:
            found.append(self._expand_nodes(forest, others))
        if len(found) == 1:
            return found[0]
        parts = zip(*((x.parent, x.token, x.conditional) for x in found), strict=True)
        return Children(*(np.concatenate(x) for x in parts))

    def _begin_round(self) -> None:
        self._paths, self._slots = NodePaths(), np.zeros(0, np.int64)
        for row in self._rows.values():
            row.used = 0

    def _grow_slots(self, size: int) -> None:
        fresh = np.full(size - len(self._slots), -1)
        self._slots = np.concatenate([self._slots, fresh])

    def _expand_roots(self, forest: Forest, roots: Ids) -> Children:
        """The catch-up, then the children of all roots but those that have no token to run yet."""
        news = {}
        for root in roots.tolist():
            row = self._rows[root]
            for proposal, token in row.hindsight.judge(row.noted):
                self.confidence.observe(proposal.probability, proposal.token == token)
            news[root], row.noted = row.noted, []
        for start in range(0, max(len(x) for x in news.values()), CHUNK):
            self._take_in({x: y[start : start + CHUNK] for x, y in news.items() if y[start:]})
        known = {x: y for x in news if (y := self._rows[x].output) is not None}
        if not known:
            return NO_CHILDREN
        ready, outputs = np.array(list(known)), torch.stack(list(known.values()))
        self._keep(self._place(ready, np.full(len(ready), -1)), outputs)
        return self._children(forest, ready, self._scores(outputs))

    def _take_in(self, news: dict[int, list[int]]) -> None:
        """One pass over the next tokens of some rows."""
        tokens = self._run_of(news)
        last = (tokens.offset + tokens.counts - 1)[np.array(list(news)) - tokens.first_row]
        # a copy, which the next pass cannot overwrite
        outputs = self._committed(tokens)[torch.from_numpy(last).to(self._device)]
        for (row, part), output in zip(news.items(), outputs, strict=True):
            self._rows[row].entries += len(part)
            self._rows[row].output = output

    def _run_of(self, news: dict[int, list[int]]) -> Tokens:
        """Each row's own run of tokens behind what it has, each token seeing all before it."""
        first = min(news)
        counts = np.zeros(max(news) - first + 1, np.int64)
        before = np.ones_like(counts)
        for row, part in news.items():
            counts[row - first], before[row - first] = len(part), self._rows[row].entries
        request = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(len(request)) - (counts.cumsum() - counts)[request]
        slot = before[request] + place
        width = int(counts.max())
        return Tokens(
            token=np.array([y for x in sorted(news) for y in news[x]], np.int64),
            request=request,
            position=slot,
            slot=slot,
            counts=counts,
            before=before,
            inside=np.repeat(np.tri(width, dtype=np.bool_)[None], len(counts), axis=0),
            inside_position=before[:, None] + np.arange(width),
            first_row=first,
        )

    def _expand_nodes(self, forest: Forest, nodes: Ids) -> Children:
        """One draft step over nodes below expanded ones."""
        nodes = self._seated(forest, nodes)
        if not nodes.size:
            return NO_CHILDREN
        tokens = self._tree_tokens(forest, nodes)
        parent = forest.parent[nodes]
        request = forest.request[nodes]
        outputs, scores = self._drafted(tokens, self._place(request, self._slots[parent]))
        self._keep(self._place(request, self._slots[nodes]), outputs[: len(nodes)])
        return self._children(forest, nodes, scores[: len(nodes)])

    def _seated(self, forest: Forest, nodes: Ids) -> Ids:
        """The nodes sorted by request, each with a slot; without those that find none."""
        nodes = nodes[np.argsort(forest.request[nodes], kind="stable")]
        request = forest.request[nodes].astype(np.int64)
        used = np.array([self._rows[x].used for x in range(forest.num_requests)])
        place = np.arange(len(nodes)) - np.searchsorted(request, request)
        slot = used[request] + place
        fits = slot < TREE_SLOTS
        nodes, request = nodes[fits], request[fits]
        self._slots[nodes] = slot[fits]
        for row, count in enumerate(np.bincount(request, minlength=forest.num_requests).tolist()):
            self._rows[row].used += count
        return nodes

    def _tree_tokens(self, forest: Forest, nodes: Ids) -> Tokens:
        """Nodes [M] by request: each sees the committed tokens, its ancestors and itself."""
        rows = [self._rows[x] for x in range(forest.num_requests)]
        before = np.array([x.entries for x in rows])
        span = max(x.used for x in rows)
        request = forest.request[nodes].astype(np.int64)
        counts = np.bincount(request, minlength=len(rows))
        place = np.arange(len(nodes)) - (counts.cumsum() - counts)[request]
        inside = np.zeros((len(rows), int(counts.max()), span), np.bool_)
        positions = np.zeros((len(rows), span), np.int64)
        query = np.arange(len(nodes))
        ancestor = nodes
        while query.size:  # one turn per depth
            slot, owner = self._slots[ancestor], request[query]
            inside[owner, place[query], slot] = True
            positions[owner, slot] = before[owner] - 1 + forest.depth[ancestor]
            above = forest.parent[ancestor]
            below_root = above >= forest.num_requests
            query, ancestor = query[below_root], above[below_root].astype(np.int64)
        return Tokens(
            token=forest.token[nodes],
            request=request,
            position=positions[request, self._slots[nodes]],
            slot=before[request] + self._slots[nodes],
            counts=counts,
            before=before,
            inside=inside,
            inside_position=positions,
        )

    def _place(self, request: NDArray[np.integer], slot: Ids) -> Ids:
        """Index of a root (slot -1) or node among all that a round can hold."""
        return request.astype(np.int64) * (TREE_SLOTS + 1) + slot + 1

    def _children(self, forest: Forest, nodes: Ids, scores: Tensor) -> Children:
        """Children of nodes [k] from scores [k, draft vocabulary]; one transfer to the host."""
        scores = scores.float()
        top = scores.topk(min(self.width, scores.shape[1]))
        probability = (top.values - scores.logsumexp(-1, keepdim=True)).exp()
        ids = self._target_ids(top.indices)
        # float64 holds every token id exactly
        values, tokens = torch.stack([probability.double(), ids.double()]).cpu().numpy()
        parent = np.repeat(nodes, values.shape[1])
        trusted = self.confidence.calibrated(parent, values.ravel())
        kept = trusted >= self.least
        many = kept.reshape(values.shape)
        for node, row, value, token in zip(nodes.tolist(), many, values, tokens, strict=True):
            proposal = Proposal(token[row].astype(np.int64), value[row])
            hindsight = self._rows[int(forest.request[node])].hindsight
            hindsight.note(self._paths.of(forest, node), proposal)
        return Children(
            parent[kept].astype(np.int32), tokens.ravel()[kept].astype(np.int64), trusted[kept]
        )

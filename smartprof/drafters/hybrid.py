"""N-gram lookup and a draft model in one tree.

A token that both propose below a node is one child. Its probability is a mixture of what the two
say, ``gate * p_lookup + (1 - gate) * p_model``; so siblings over both sources sum to at most 1. The
gate is how far the lookup is to be believed where both have an opinion; it depends on how sure each
of them is, and is learned from the tokens that followed: a mixture's weight is the mean
responsibility of its component (Dempster, Laird and Rubin, J. R. Stat. Soc. B 39, 1977).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smartprof.drafters.base import Drafter
from smartprof.drafters.hindsight import Hindsight, NodePaths
from smartprof.drafters.ngram import NgramDrafter
from smartprof.trees.forest import NO_CHILDREN, Children, Forest

if TYPE_CHECKING:
    from smartprof.drafters.model_drafter import ModelDrafter
    from smartprof.models.cache import KVCache

SURE = np.array([0.15, 0.35, 0.6, 0.8])  # edges of how sure a source is: its best child
TYPICAL = np.array([0.08, 0.25, 0.47, 0.7, 0.9])  # of each range
GATE = "gate"  # name of its counts
PRIOR_WEIGHT = 4.0  # observations that the prior of a gate counts as

Floats = NDArray[np.float64]


class Gate:
    """Weight of the lookup in the mixture, by how sure lookup and model are."""

    def __init__(self) -> None:
        prior = TYPICAL[:, None] / (TYPICAL[:, None] + TYPICAL)  # [lookup, model]
        self._frozen = False
        self._count = np.full(prior.shape, PRIOR_WEIGHT)
        self._responsible = PRIOR_WEIGHT * prior

    def freeze(self) -> None:
        """Ignore further observations, for runs that must not influence each other."""
        self._frozen = True

    @property
    def counts(self) -> Floats:
        """float64 [2, ranges]: responsibility of the lookup and observations, priors included."""
        return np.stack([self._responsible.ravel(), self._count.ravel()])

    @counts.setter
    def counts(self, counts: Floats) -> None:
        self._responsible, self._count = counts.reshape(2, *self._count.shape).copy()

    def weight(self, lookup: Floats, model: Floats) -> Floats:
        """Weights [k] for the best probabilities [k] of both; 0 or 1 where one has none."""
        place = SURE.searchsorted(lookup), SURE.searchsorted(model)
        weight = self._responsible[place] / self._count[place]
        return np.where(lookup <= 0, 0.0, np.where(model <= 0, 1.0, weight))

    def observe(self, lookup: Floats, model: Floats, right: NDArray[np.bool_]) -> None:
        """Count one node: probabilities [k] of its children by source, and which was right.

        Where none was, the sources are held to what they left to all other tokens.
        """
        best = lookup.max(), model.max()
        if self._frozen or min(best) <= 0:
            return
        place = int(SURE.searchsorted(best[0])), int(SURE.searchsorted(best[1]))
        said = [x[right].sum() if right.any() else max(0.0, 1 - x.sum()) for x in (lookup, model)]
        weight = self._responsible[place] / self._count[place]
        total = weight * said[0] + (1 - weight) * said[1]
        if total > 0:
            self._responsible[place] += weight * said[0] / total
            self._count[place] += 1


@dataclass(frozen=True, eq=False)
class Merged:
    """Children by both sources, sorted by parent: token int64 [k], probabilities float64 [k]."""

    parent: NDArray[np.int32]
    token: NDArray[np.int64]
    lookup: Floats
    model: Floats

    @property
    def first(self) -> NDArray[np.int64]:
        """int64 [parents]: where each parent's children begin."""
        return np.flatnonzero(np.diff(self.parent, prepend=-1))

    def conditional(self, gate: Gate) -> Floats:
        """The one probability of each child."""
        first = self.first
        best = (np.maximum.reduceat(x, first) for x in (self.lookup, self.model))
        weight = np.repeat(gate.weight(*best), np.diff(first, append=len(self.parent)))
        return weight * self.lookup + (1 - weight) * self.model

    def part(self, start: int, stop: int) -> Merged:
        """Some of the children."""
        here = slice(start, stop)
        return Merged(self.parent[here], self.token[here], self.lookup[here], self.model[here])


def merge(lookup: Children, model: Children) -> Merged:
    """The children of two sources, those with the same parent and token as one."""
    parent = np.concatenate([lookup.parent, model.parent])
    token = np.concatenate([lookup.token, model.token])
    order = np.lexsort((token, parent))
    parent, token = parent[order], token[order]
    fresh = np.flatnonzero((np.diff(parent, prepend=-1) != 0) | (np.diff(token, prepend=-1) != 0))
    sizes = len(lookup.parent), len(model.parent)
    by_source = (
        np.concatenate([lookup.conditional, np.zeros(sizes[1])]),
        np.concatenate([np.zeros(sizes[0]), model.conditional]),
    )
    sums = [np.add.reduceat(x[order], fresh) if len(fresh) else x for x in by_source]
    return Merged(parent[fresh], token[fresh], *sums)


@dataclass
class Row:
    """One request. noted: tokens committed since both sources last drafted for it together."""

    noted: list[int] = field(default_factory=list)
    hindsight: Hindsight[Merged] = field(default_factory=Hindsight)


class HybridDrafter(Drafter):
    """Lookup and model together, or in a round where the model does not pay, lookup alone."""

    name = "hybrid"
    kind = "hybrid"

    def __init__(self, lookup: NgramDrafter, model: ModelDrafter) -> None:
        self.lookup, self.model, self.gate = lookup, model, Gate()
        self.digest = f"hybrid+{lookup.digest}+{model.digest}"
        self.taps = model.taps
        self._alone = False
        self._rows: dict[int, Row] = {}
        self._paths = NodePaths()

    @property
    def sources(self) -> tuple[str, ...]:
        """The lookup alone, which is nearly free, and both."""
        return (self.lookup.name, self.name)

    @property
    def caches(self) -> tuple[KVCache, ...]:
        """Those of the model."""
        return self.model.caches

    def part(self, source: str) -> Drafter:
        """The lookup, or both."""
        return self.lookup if source == self.lookup.name else self

    def begin(self, source: str) -> None:
        """Draft with the lookup alone, or with both."""
        self._alone = source == self.lookup.name

    def outlook(self) -> float:
        """That of the lookup."""
        return self.lookup.outlook()

    def pending(self, source: str) -> int:
        """Tokens noted since the source last drafted; of both, the model's catch-up counts."""
        alone = source == self.lookup.name
        return self.lookup.pending(source) if alone else self.model.pending(source)

    def attach(self, cache: KVCache) -> None:
        """Only the model looks at the target."""
        self.model.attach(cache)

    def admit(self, row: int, tokens: Sequence[int]) -> None:
        """Both take the request in."""
        self._rows[row] = Row()
        self.lookup.admit(row, tokens)
        self.model.admit(row, tokens)

    def seat(self, row: int, tokens: Sequence[int]) -> None:
        """Both take the request in as far as latency depends on it."""
        self._rows[row] = Row()
        self.lookup.seat(row, tokens)
        self.model.seat(row, tokens)

    def commit(self, row: int, tokens: Sequence[int]) -> None:
        """Both note the tokens."""
        self._rows[row].noted.extend(tokens)
        self.lookup.commit(row, tokens)
        self.model.commit(row, tokens)

    def release(self, row: int) -> None:
        """Both forget the request."""
        del self._rows[row]
        self.lookup.release(row)
        self.model.release(row)

    def move(self, source: int, target: int) -> None:
        """Both move the request."""
        self._rows[target] = self._rows.pop(source)
        self.lookup.move(source, target)
        self.model.move(source, target)

    def freeze(self) -> None:
        """Both, and the choice between them."""
        self.lookup.freeze()
        self.model.freeze()
        self.gate.freeze()

    def statistics(self) -> dict[str, Floats]:
        """Those of both, and the gate's."""
        return self.lookup.statistics() | self.model.statistics() | {GATE: self.gate.counts}

    def recall(self, statistics: Mapping[str, Floats]) -> None:
        """Both, and the gate."""
        super().recall(statistics)
        self.lookup.recall(statistics)
        self.model.recall(statistics)
        self.gate.counts = statistics[GATE]

    def expand(self, forest: Forest, nodes: NDArray[np.int64]) -> Children:
        """Children that either source proposes; each token below a node once."""
        found = self.lookup.expand(forest, nodes)
        if self._alone:
            return found
        if forest.size == forest.num_requests:
            self._paths = NodePaths()
        self._judge(nodes[nodes < forest.num_requests])
        merged = merge(found, self.model.expand(forest, nodes))
        if not len(merged.parent):
            return NO_CHILDREN
        self._note(forest, merged)
        return Children(merged.parent, merged.token, merged.conditional(self.gate))

    def _judge(self, roots: NDArray[np.int64]) -> None:
        for root in roots.tolist():
            row = self._rows[root]
            for seen, token in row.hindsight.judge(row.noted):
                self.gate.observe(seen.lookup, seen.model, seen.token == token)
            row.noted = []

    def _note(self, forest: Forest, merged: Merged) -> None:
        bounds = [*merged.first.tolist(), len(merged.parent)]
        for start, stop in pairwise(bounds):
            node = int(merged.parent[start])
            hindsight = self._rows[int(forest.request[node])].hindsight
            hindsight.note(self._paths.of(forest, node), merged.part(start, stop))

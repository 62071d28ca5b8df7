"""Drafting by lookup: what followed the last few tokens earlier in the same request.

Prompt lookup decoding (Saxena, https://github.com/apoorvumang/prompt-lookup-decoding, 2023), but
with all distinct continuations of the longest match instead of one, and with calibrated
probabilities. Needs no model; pays on text that repeats itself or its prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import nlargest

import numpy as np
from numpy.typing import NDArray

from smartprof.drafters.base import Drafter
from smartprof.drafters.evidence import FURTHER, SEVERAL, SINGLE, EvidenceTable, bucket_of
from smartprof.drafters.suffix_index import MOST_MATCHED, Context, Continuations, SuffixIndex
from smartprof.policies.base import Outcome
from smartprof.trees.forest import NO_CHILDREN, Children, Forest

WIDTH = 8  # most children of a node
RECENCY = 0.5  # occurrences that being the latest continuation counts as
LEAST_FURTHER = 0.005  # conditional probability below which shorter matches add nothing


@dataclass
class Row:
    """One request: its index and the committed tokens not yet taken in."""

    index: SuffixIndex = field(default_factory=SuffixIndex)
    noted: list[int] = field(default_factory=list)


@dataclass
class Proposals:
    """Children of the nodes of one step, in lists that grow together.

    share: the part of its bucket's probability that a child carries, for the calibration.
    """

    parent: list[int] = field(default_factory=list)
    token: list[int] = field(default_factory=list)
    conditional: list[float] = field(default_factory=list)
    bucket: list[int] = field(default_factory=list)
    share: list[float] = field(default_factory=list)

    def children(self) -> Children:
        """As arrays."""
        if not self.parent:
            return NO_CHILDREN
        return Children(
            np.array(self.parent, np.int32),
            np.array(self.token, np.int64),
            np.array(self.conditional, np.float64),
        )


class NgramDrafter(Drafter):
    """Proposes what followed the longest match of the newest tokens in a request's own text.

    A node's context is the request's text and the node's path. Its children are the distinct
    continuations of the longest match of 1 ... 8 tokens, then those that shorter matches add, at
    most `width` in all; the more frequent first, then the more recent. The probability of a child
    is ``rate(evidence) * share``: the learned rate at which such a match is right, times the
    child's part of the match's occurrences, the latest continuation counting half an occurrence
    more. A shorter match shares out only what the longer ones leave over.
    """

    name = "ngram"
    kind = "ngram"

    def __init__(
        self,
        width: int = WIDTH,
        least_further: float = LEAST_FURTHER,
        evidence: EvidenceTable | None = None,
    ) -> None:
        self.width, self.least_further = width, least_further
        self.evidence = evidence or EvidenceTable()
        self.digest = f"ngram-1-match{MOST_MATCHED}-width{width}-least{least_further:g}"
        self._rows: dict[int, Row] = {}
        self._suffixes: dict[int, Context] = {}  # of the nodes expanded in this round
        self._given: dict[int, tuple[int, float]] = {}  # node -> bucket and share, in this round

    def admit(self, row: int, tokens: Sequence[int]) -> None:
        """Index a request's tokens at once: the prompt belongs to prefill, not to a round."""
        self._rows[row] = Row()
        self._rows[row].index.extend(tokens)

    def commit(self, row: int, tokens: Sequence[int]) -> None:
        """Note tokens for the next root expansion."""
        self._rows[row].noted.extend(tokens)

    def release(self, row: int) -> None:
        """Drop a request's index."""
        del self._rows[row]

    def move(self, source: int, target: int) -> None:
        """Hand a request's index to another row."""
        self._rows[target] = self._rows.pop(source)

    def expand(self, forest: Forest, nodes: NDArray[np.int64]) -> Children:
        """Continuations found for every node; nodes without a match get no children."""
        if forest.size == forest.num_requests:  # a new round
            self._suffixes, self._given = {}, {}
        proposals = Proposals()
        requests, wanted = forest.request[nodes].tolist(), nodes.tolist()
        for node, request in zip(wanted, requests, strict=True):
            row = self._rows[request]
            if row.noted and node < forest.num_requests:
                row.index.extend(row.noted)
                row.noted = []
            suffix = self._suffix(forest, node, row)
            self._propose(proposals, node, row.index, suffix)
        first = forest.size
        given = zip(proposals.bucket, proposals.share, strict=True)
        self._given.update(zip(range(first, first + len(proposals.bucket)), given, strict=True))
        return proposals.children()

    def learn(self, outcome: Outcome) -> None:
        """Count every child that was put to the test."""
        tested = outcome.reached.nonzero()[0]
        accepted = outcome.accepted[tested].tolist()
        for node, right in zip(tested.tolist(), accepted, strict=True):
            evidence = self._given.get(node)
            if evidence is not None:
                self.evidence.observe(*evidence, right)

    def _suffix(self, forest: Forest, node: int, row: Row) -> Context:
        """The newest tokens at a node; its parent's are known, because it was expanded before."""
        suffix = self._suffixes.get(node)
        if suffix is None:
            if node < forest.num_requests:
                suffix = row.index.suffix
            else:
                above = self._suffix(forest, int(forest.parent[node]), row)
                suffix = (*above, int(forest.token[node]))[-MOST_MATCHED:]
            self._suffixes[node] = suffix
        return suffix

    def _propose(
        self, proposals: Proposals, node: int, index: SuffixIndex, suffix: Context
    ) -> None:
        """Append a node's children."""
        known: dict[int, list[int]] = {}  # continuations of longer matches; any match has them too
        left, room = 1.0, self.width
        for matched, match in index.matches(suffix):
            if len(match.seen) == len(known):
                continue
            if known:
                bucket = bucket_of(FURTHER, matched)
            else:
                bucket = bucket_of(SINGLE if len(match.seen) == 1 else SEVERAL, matched)
            rate = self.evidence.rates[bucket]
            least = self.least_further if known else 0.0
            if left * rate < least:
                continue
            for token, share in _shares(match, known, room):
                if left * rate * share >= least:
                    proposals.parent.append(node)
                    proposals.token.append(token)
                    proposals.conditional.append(left * rate * share)
                    proposals.bucket.append(bucket)
                    proposals.share.append(left * share)
                    room -= 1
            if room <= 0:
                return
            known, left = match.seen, left * (1.0 - rate)


def _shares(
    match: Continuations, known: dict[int, list[int]], most: int
) -> list[tuple[int, float]]:
    """Up to `most` continuations not in `known`, best first, with their parts of all such ones.

    known: continuations of a longer match, all of which this one has as well.
    """
    seen = match.seen
    if len(seen) == 1:
        return [(match.latest, 1.0)]
    fresh = [x for x in seen if x not in known] if known else list(seen)
    bonus = 0.0 if match.latest in known else RECENCY
    total = match.total - sum([seen[x][0] for x in known]) + bonus
    best = nlargest(most, fresh, key=seen.__getitem__)
    return [(x, (seen[x][0] + (RECENCY if x == match.latest else 0.0)) / total) for x in best]

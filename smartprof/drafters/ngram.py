"""Drafting by lookup: what followed the last few tokens earlier in the same request.

Prompt lookup decoding (Saxena, https://github.com/apoorvumang/prompt-lookup-decoding, 2023), but
with all distinct continuations of the longest match instead of one, and with calibrated
probabilities. Needs no model; pays on text that repeats itself or its prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smartprof.drafters.base import Drafter
from smartprof.drafters.evidence import FURTHER, SEVERAL, SINGLE, EvidenceTable, bucket_of
from smartprof.drafters.hindsight import Hindsight, NodePaths
from smartprof.drafters.suffix_index import MOST_MATCHED, Context, Continuations, SuffixIndex
from smartprof.trees.forest import NO_CHILDREN, Children, Forest

WIDTH = 8  # most children of a node
RECENCY = 0.5  # occurrences that being the latest continuation counts as
LEAST = 0.005  # conditional probability below which a child is not worth its row anywhere
EVIDENCE = "evidence"  # name of its counts


class Proposal(NamedTuple):
    """One child. share: the part of its bucket's probability that it carries."""

    token: int
    conditional: float
    bucket: int
    share: float


@dataclass
class Row:
    """One request. noted: committed tokens not yet taken in."""

    index: SuffixIndex = field(default_factory=SuffixIndex)
    noted: list[int] = field(default_factory=list)
    hindsight: Hindsight[list[Proposal]] = field(default_factory=Hindsight)


class NgramDrafter(Drafter):
    """Proposes what followed the longest match of the newest tokens in a request's own text.

    A node's context is the request's text and the node's path. Its children are the distinct
    continuations of the longest match of 1 ... 8 tokens, then those that shorter matches add, at
    most `width` in all; the more frequent first, then the more recent. The probability of a child
    is ``rate(evidence) * share``: the learned rate at which such a match is right, times the
    child's part of the match's occurrences, the latest continuation counting half an occurrence
    more. A shorter match shares out only what the longer ones leave over. Children less probable
    than `least` are left out.

    Rates are learned from the tokens that really followed, at the next catch-up: these judge every
    child of a node on their path, whether it was verified or not. Judging only what was verified
    would never correct a rate that is too low for its children to be chosen.
    """

    name = "ngram"
    kind = "ngram"

    def __init__(
        self,
        width: int = WIDTH,
        least: float = LEAST,
        evidence: EvidenceTable | None = None,
    ) -> None:
        self.width, self.least = width, least
        self.evidence = evidence or EvidenceTable()
        self.digest = f"ngram-1-match{MOST_MATCHED}-width{width}-least{least:g}"
        self._rows: dict[int, Row] = {}
        self._paths = NodePaths()

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

    def pending(self, source: str) -> int:
        """Tokens noted since the last root expansion."""
        return sum(len(x.noted) for x in self._rows.values())

    def outlook(self) -> float:
        """Looks every root up, after taking in what was noted."""
        best = []
        for row in self._rows.values():
            self._catch_up(row)
            children = self._propose(row.index, row.index.suffix)
            best.append(max((x.conditional for x in children), default=0.0))
        return sum(best) / len(best) if best else 0.0

    def freeze(self) -> None:
        """Keep the rates as they are."""
        self.evidence.freeze()

    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """Hits and exposure of each bucket of evidence."""
        return {EVIDENCE: self.evidence.counts}

    def recall(self, statistics: Mapping[str, NDArray[np.float64]]) -> None:
        """Rates as they were learned."""
        super().recall(statistics)
        self.evidence.counts = statistics[EVIDENCE]

    def expand(self, forest: Forest, nodes: NDArray[np.int64]) -> Children:
        """Continuations found for every node; nodes without a match get no children."""
        if forest.size == forest.num_requests:  # a new round
            self._paths = NodePaths()
        parents: list[int] = []
        found: list[Proposal] = []
        requests, wanted = forest.request[nodes].tolist(), nodes.tolist()
        for node, request in zip(wanted, requests, strict=True):
            row = self._rows[request]
            if node < forest.num_requests:
                self._catch_up(row)
            path = self._paths.of(forest, node)
            children = self._propose(row.index, (*row.index.suffix, *path)[-MOST_MATCHED:])
            row.hindsight.note(path, children)
            parents += [node] * len(children)
            found += children
        if not found:
            return NO_CHILDREN
        return Children(
            np.array(parents, np.int32),
            np.array([x.token for x in found], np.int64),
            np.array([x.conditional for x in found], np.float64),
        )

    def _catch_up(self, row: Row) -> None:
        """Judge the last proposals by the tokens that followed, and take these in."""
        for children, token in row.hindsight.judge(row.noted):
            for child in children:
                self.evidence.observe(child.bucket, child.share, child.token == token)
        row.index.extend(row.noted)
        row.noted = []

    def _propose(self, index: SuffixIndex, suffix: Context) -> list[Proposal]:
        """A node's children."""
        children: list[Proposal] = []
        known: dict[int, list[int]] = {}  # continuations of longer matches; any match has them too
        left = 1.0
        for matched, match in index.matches(suffix):
            if len(match.seen) == len(known):
                continue
            kind = FURTHER if known else (SINGLE if len(match.seen) == 1 else SEVERAL)
            bucket = bucket_of(kind, matched)
            chance = left * self.evidence.rates[bucket]
            for token, share in _shares(match, known, self.least / chance):
                children.append(Proposal(token, chance * share, bucket, left * share))
            if len(children) >= self.width:
                return children[: self.width]
            known, left = match.seen, left - chance
        return children


def _shares(
    match: Continuations, known: dict[int, list[int]], least: float
) -> list[tuple[int, float]]:
    """Continuations not in `known`, best first, with their parts of all such occurrences.

    known: continuations of a longer match, all of which this one has as well. Parts below `least`
    are left out.
    """
    seen, latest = match.seen, match.latest
    if len(seen) == 1:
        return [(latest, 1.0)] if least <= 1.0 else []
    bonus = 0.0 if latest in known else RECENCY
    total = match.total - sum([seen[x][0] for x in known]) + bonus
    needed = least * total
    if match.most + bonus < needed:
        return []
    fresh = [
        (entry[0], entry[1], token)
        for token, entry in seen.items()
        if token not in known and entry[0] + (RECENCY if token == latest else 0.0) >= needed
    ]
    fresh.sort(reverse=True)
    return [(x, (count + (RECENCY if x == latest else 0.0)) / total) for count, _, x in fresh]

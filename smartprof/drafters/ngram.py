"""Drafting by lookup: what followed the last few tokens earlier in the same request.

Prompt lookup decoding (Saxena, https://github.com/apoorvumang/prompt-lookup-decoding, 2023), but
with all distinct continuations of the longest match instead of one, and with calibrated
probabilities. Needs no model; pays on text that repeats itself or its prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smartprof.drafters.base import Drafter
from smartprof.drafters.evidence import FURTHER, SEVERAL, SINGLE, EvidenceTable, bucket_of
from smartprof.drafters.suffix_index import MOST_MATCHED, Context, Continuations, SuffixIndex
from smartprof.trees.forest import NO_CHILDREN, Children, Forest

WIDTH = 8  # most children of a node
RECENCY = 0.5  # occurrences that being the latest continuation counts as
LEAST = 0.005  # conditional probability below which a child is not worth its row anywhere


class Proposal(NamedTuple):
    """One child. node: in the forest. share: the part of its bucket's probability it carries."""

    node: int
    token: int
    conditional: float
    bucket: int
    share: float


@dataclass
class Row:
    """One request.

    noted: committed tokens not yet taken in. proposed: node -> what was proposed below it when the
    request was last drafted for; its root is `root`.
    """

    index: SuffixIndex = field(default_factory=SuffixIndex)
    noted: list[int] = field(default_factory=list)
    proposed: dict[int, list[Proposal]] = field(default_factory=dict)
    root: int = 0


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
        self._suffixes: dict[int, Context] = {}  # of the nodes expanded in this round

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
            self._suffixes = {}
        parents: list[int] = []
        found: list[Proposal] = []
        requests, wanted = forest.request[nodes].tolist(), nodes.tolist()
        for node, request in zip(wanted, requests, strict=True):
            row = self._rows[request]
            if node < forest.num_requests:
                self._catch_up(row, node)
            suffix = self._suffix(forest, node, row)
            children = self._propose(row.index, suffix, forest.size + len(found))
            row.proposed[node] = children
            parents += [node] * len(children)
            found += children
        if not found:
            return NO_CHILDREN
        return Children(
            np.array(parents, np.int32),
            np.array([x.token for x in found], np.int64),
            np.array([x.conditional for x in found], np.float64),
        )

    def _catch_up(self, row: Row, root: int) -> None:
        """Judge the last proposals by the tokens that followed, and take these in."""
        node: int | None = row.root
        for token in row.noted:
            children = row.proposed.get(node) if node is not None else None
            if children is None:
                break
            node = None
            for child in children:
                right = child.token == token
                self.evidence.observe(child.bucket, child.share, right)
                if right:
                    node = child.node
        row.index.extend(row.noted)
        row.noted, row.proposed, row.root = [], {}, root

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

    def _propose(self, index: SuffixIndex, suffix: Context, first: int) -> list[Proposal]:
        """A node's children, numbered from `first`."""
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
                node = first + len(children)
                children.append(Proposal(node, token, chance * share, bucket, left * share))
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

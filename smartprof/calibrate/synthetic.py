"""Trees and text that only a calibration uses: latency does not depend on what tokens say."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smartprof.drafters.base import Drafter
from smartprof.errors import InputError
from smartprof.policies.ranking import rank_within
from smartprof.profile.envelope import Envelope
from smartprof.trees.forest import Children, Forest

LEAST_SHARE = 1e-6  # conditional probability of a child that is only there to be counted


def heaps(sizes: NDArray[np.int64], vocab: int) -> Forest:
    """A forest of trees of such sizes, roots included, each a binary heap."""
    forest = Forest.roots(np.arange(len(sizes)) % vocab)
    missing = sizes - 1
    while missing.any():
        nodes = forest.frontier
        parent = np.repeat(nodes, 2)
        place = rank_within(forest.request[parent], np.zeros(len(parent)))
        kept = place < missing[forest.request[parent]]
        parent, token = parent[kept], np.tile([0, 1], len(nodes))[kept] % vocab
        missing = missing - np.bincount(forest.request[parent], minlength=len(sizes))
        forest = forest.extend(nodes, Children.checked(parent, token, np.full(len(parent), 0.5)))
    return forest


class EvenDrafter(Drafter):
    """Gives every root the same number of children at once; costs next to nothing."""

    name = "even"
    digest = "even"
    kind = "synthetic"

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def admit(self, row: int, tokens: Sequence[int]) -> None:
        """Nothing is kept."""

    def commit(self, row: int, tokens: Sequence[int]) -> None:
        """Nothing is kept."""

    def release(self, row: int) -> None:
        """Nothing is kept."""

    def move(self, source: int, target: int) -> None:
        """Nothing is kept."""

    def expand(self, forest: Forest, nodes: NDArray[np.int64]) -> Children:
        """Children of the roots, spread evenly over them."""
        count = self.tokens - len(nodes)
        place = np.arange(count)
        token = place // len(nodes)
        share = len(nodes) / (count + len(nodes))
        return Children.checked(nodes[place % len(nodes)], token, np.full(count, share))


class WidenedDrafter(Drafter):
    """A drafter whose roots get further children, words of a text, until `rows` nodes are open."""

    name = "widened"

    def __init__(self, inner: Drafter, rows: int, text: Sequence[int]) -> None:
        self.inner, self.rows, self.text = inner, rows, text
        self.digest, self.kind = inner.digest, inner.kind

    def admit(self, row: int, tokens: Sequence[int]) -> None:
        """As the drafter does."""
        self.inner.admit(row, tokens)

    def commit(self, row: int, tokens: Sequence[int]) -> None:
        """As the drafter does."""
        self.inner.commit(row, tokens)

    def release(self, row: int) -> None:
        """As the drafter does."""
        self.inner.release(row)

    def move(self, source: int, target: int) -> None:
        """As the drafter does."""
        self.inner.move(source, target)

    def expand(self, forest: Forest, nodes: NDArray[np.int64]) -> Children:
        """The drafter's children; of roots, as many as are asked for.

        Raises InputError where the text has too few different words.
        """
        children = self.inner.expand(forest, nodes)
        missing = self.rows - len(children.parent)
        if forest.size > forest.num_requests or missing <= 0:
            return children
        taken = set(zip(children.parent.tolist(), children.token.tolist(), strict=True))
        pairs = ((root, token) for token in dict.fromkeys(self.text) for root in nodes.tolist())
        fresh = list(islice((x for x in pairs if x not in taken), missing))
        if len(fresh) < missing:
            raise InputError(
                f"expected {self.rows} distinct draft nodes at batch {len(nodes)}, the vocabulary "
                f"allows only {self.rows - missing + len(fresh)}: choose a target with a larger "
                "vocabulary"
            )
        parent, token = np.array(fresh).T
        share = np.full(len(fresh), LEAST_SHARE)
        return Children.checked(
            np.concatenate([children.parent, parent]),
            np.concatenate([children.token, token]),
            np.concatenate([(1 - len(fresh) * LEAST_SHARE) * children.conditional, share]),
        )


class Unpriced:
    """Costs before anything was measured: every price is zero, and nobody may decide by them."""

    most_tokens = 1 << 20

    def source(self, drafter: str) -> Unpriced:
        """Nothing is priced for anyone."""
        return self

    def verify(self, batch: int, tokens: Any, context: float) -> Any:
        """Zero."""
        return 0.0

    def draft_step(self, batch: int, rows: Any, context: float) -> Any:
        """Zero."""
        return 0.0

    def draft_catchup(self, batch: int, accepted: Any, context: float) -> Any:
        """Zero."""
        return 0.0

    def round_overhead(self, batch: int, tokens: Any) -> Any:
        """Zero."""
        return 0.0

    def plain_decode(self, batch: int, context: float) -> float:
        """Zero."""
        return 0.0

    def verify_envelope(self, batch: int, max_tokens: int, context: float) -> Envelope:
        """Zeros, nothing padded."""
        tokens = np.arange(batch, max_tokens + 1)
        return Envelope(tokens, np.zeros(len(tokens)), tokens)


class FlatCosts(Unpriced):
    """Every pass takes a second, drafting nothing: the more tokens of one pass, the better."""

    def verify(self, batch: int, tokens: Any, context: float) -> Any:
        """One."""
        return np.ones(np.shape(tokens))

    def plain_decode(self, batch: int, context: float) -> float:
        """One."""
        return 1.0

    def draft_step(self, batch: int, rows: Any, context: float) -> Any:
        """Zeros."""
        return np.zeros(np.shape(rows))

    def verify_envelope(self, batch: int, max_tokens: int, context: float) -> Envelope:
        """Ones, nothing padded."""
        tokens = np.arange(batch, max_tokens + 1)
        return Envelope(tokens, np.ones(len(tokens)), tokens)

"""Calibrated acceptance: how likely the target's next token is each of a node's proposed children.

The target's token after a node is one of its children or none of them. So the model is a
conditional logit (McFadden, "Conditional logit analysis of qualitative choice behavior", 1974) with
"none" as one more outcome, and what the drafter states as its offset:

    score(child) = log stated + w . features,  score(none) = log(1 - sum of stated)
    q(child) = exp(score(child)) / (exp(score(none)) + sum over siblings of exp(score))

With w = 0 this is what the drafter states. Siblings sum to less than 1 by construction, which a
logistic or isotonic regression of each child by itself would have to be forced to. A Gaussian prior
draws w to 0; the posterior is kept as its mode and precision (Laplace's approximation), so that
learning goes on round by round (Spiegelhalter and Lauritzen, Networks 20, 1990).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Natural logarithms; of the children, but for the rest, which all siblings share.
FEATURES = ("one", "log_stated", "log_rest", "log_margin", "log_rank", "log_depth")
PRIOR_PRECISION = (4.0, 16.0, 16.0, 16.0, 16.0, 16.0)  # of the weights around 0
LEAST_STATED = 1e-4  # what is stated below this is taken for this
LEAST_REST = 1e-3  # nothing is certain
LEAST_MARGIN = 0.005  # what a best sibling that was not proposed counts as
MOST_SCORE = 30.0
MOST_MOVED = 2.0  # of log odds in one Newton step
MOST_NEWTON_STEPS = 50
TOLERANCE = 1e-9  # of the weights, where Newton's method ends

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Proposals:
    """Children that a drafter proposed, node by node, likeliest sibling first.

    group: int64 [k], 0 ... groups - 1 in rising order, siblings have the same.
    stated: float64 [k] in (0, 1], the drafter's conditional probabilities.
    depth: int64 [k], of the children, from 1.
    """

    group: Ints
    stated: Floats
    depth: Ints

    @classmethod
    def sort(cls, parent: ArrayLike, stated: ArrayLike, depth: ArrayLike) -> tuple[Proposals, Ints]:
        """Proposals from children in any order, and that order: int64 [k], sorted place to place.

        parent: int [k], equal for siblings. stated, depth: [k], as above.
        """
        parents, values = np.asarray(parent), np.asarray(stated, np.float64)
        order = np.lexsort((-values, parents))
        ordered = parents[order]
        group = np.zeros(len(order), np.int64)
        np.cumsum(ordered[1:] != ordered[:-1], out=group[1:])
        return cls(group, values[order], np.asarray(depth, np.int64)[order]), order

    @cached_property
    def first(self) -> Ints:
        """int64 [groups]: where each group begins."""
        return np.flatnonzero(np.diff(self.group, prepend=-1))

    @cached_property
    def rank(self) -> Ints:
        """int64 [k]: place among the siblings, 0 for the likeliest."""
        return np.arange(len(self.group)) - self.first[self.group]

    @cached_property
    def features(self) -> Floats:
        """float64 [k, features]: what the weights multiply, in the order of `FEATURES`.

        log_margin: of the stated probability over the best sibling's.
        """
        stated = np.maximum(self.stated, LEAST_STATED)
        columns = np.empty((len(FEATURES), len(stated)))
        columns[0] = 1.0
        columns[1] = np.log(stated)
        columns[2] = np.log(self._rest)[self.group]
        columns[3] = columns[1] - np.log(self._best_sibling)
        columns[4] = np.log1p(self.rank)
        columns[5] = np.log(self.depth)
        return columns.T

    @cached_property
    def offset(self) -> Floats:
        """float64 [k]: log odds of each child against none of the siblings, as stated."""
        return self.features[:, 1] - self.features[:, 2]

    @property
    def _rest(self) -> Floats:
        total = np.bincount(self.group, self.stated)
        return np.maximum(1.0 - total, LEAST_REST)

    @property
    def _best_sibling(self) -> Floats:
        """float64 [k]: of the likeliest it is the second, of the others the likeliest."""
        best = np.append(self.stated, 0.0)[self.first[self.group]]
        last = np.append(self.first[1:], len(self.group)) - 1
        second = np.where(self.first < last, self.stated[np.minimum(self.first + 1, last)], 0.0)
        best[self.first] = second
        return np.maximum(best, LEAST_MARGIN)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Proposals below nodes on the target's own path, and which of them the target then chose.

    right: bool [k], at most one of each group.
    """

    proposals: Proposals
    right: Bools

    @classmethod
    def of(
        cls, parent: ArrayLike, stated: ArrayLike, depth: ArrayLike, right: ArrayLike
    ) -> Labelled:
        """From children in any order, as `Proposals.sort` takes them."""
        proposals, order = Proposals.sort(parent, stated, depth)
        return cls(proposals, np.asarray(right, np.bool_)[order])

    @classmethod
    def joined(cls, parts: Sequence[Labelled]) -> Labelled:
        """All of them; the groups of different parts stay apart."""
        if not parts:
            return cls.of([], [], [], [])
        groups = np.cumsum([0, *(len(x.proposals.first) for x in parts)])[:-1]
        proposals = Proposals(
            np.concatenate([x.proposals.group + y for x, y in zip(parts, groups, strict=True)]),
            np.concatenate([x.proposals.stated for x in parts]),
            np.concatenate([x.proposals.depth for x in parts]),
        )
        return cls(proposals, np.concatenate([x.right for x in parts]))

    @property
    def size(self) -> int:
        """Labels."""
        return len(self.right)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was learned of one source of a drafter.

    weights: float64 [features]. precision: float64 [features, features], the inverse covariance of
    the weights given everything seen so far, the prior included.
    """

    weights: Floats
    precision: Floats

    @classmethod
    def identity(cls) -> Calibration:
        """What the drafter states, before anything was seen."""
        return cls(np.zeros(len(FEATURES)), np.diag(PRIOR_PRECISION))

    def calibrated(self, proposals: Proposals) -> Floats:
        """float64 [k] in (0, 1): conditional acceptance; siblings sum to less than 1.

        Siblings keep the drafter's order: where the weights would turn it around, their values
        change places (Chernozhukov, Fernandez-Val and Galichon, Econometrica 78, 2010).
        """
        score = self._scores(proposals)
        siblings = proposals.group[1:] == proposals.group[:-1]
        if (siblings & (score[1:] > score[:-1])).any():
            score = score[np.lexsort((-score, proposals.group))]
        return _shares(score, proposals)

    def updated(self, seen: Labelled) -> Calibration:
        """The posterior after a few more labels: one Newton step; for every round of decoding."""
        if not seen.size:
            return self
        slope, information = self._slope_and_information(seen)
        precision = self.precision + information
        step = np.linalg.solve(precision, slope).astype(np.float64)
        return Calibration(self.weights + _damped(step, seen.proposals), precision)

    def fitted(self, seen: Labelled, weight: float = 1.0) -> Calibration:
        """The posterior after many labels at once, with this one as the prior: Newton's method.

        weight: what each label counts; below 1 where labels repeat each other.
        """
        if not seen.size:
            return self
        found = self
        for _ in range(MOST_NEWTON_STEPS):
            slope, information = found._slope_and_information(seen)
            precision = self.precision + weight * information
            pull = self.precision @ (self.weights - found.weights)
            step = np.linalg.solve(precision, weight * slope + pull).astype(np.float64)
            found = Calibration(found.weights + _damped(step, seen.proposals), precision)
            if np.abs(step).max() < TOLERANCE:
                break
        return found

    def _scores(self, proposals: Proposals) -> Floats:
        score = proposals.offset + proposals.features @ self.weights
        return np.clip(score, -MOST_SCORE, MOST_SCORE)

    def _slope_and_information(self, seen: Labelled) -> tuple[Floats, Floats]:
        """Of the log-likelihood at the present weights: first and minus second derivative."""
        proposals, features = seen.proposals, seen.proposals.features
        share = _shares(self._scores(proposals), proposals)
        weighted = features * share[:, None]
        means = np.add.reduceat(weighted, proposals.first)
        return (seen.right - share) @ features, weighted.T @ features - means.T @ means


def _shares(score: Floats, proposals: Proposals) -> Floats:
    """Probabilities from log odds against none of the siblings."""
    odds = np.exp(score)
    return odds / (1.0 + np.bincount(proposals.group, odds))[proposals.group]


def _damped(step: Floats, proposals: Proposals) -> Floats:
    """A step that moves no child's log odds too far: away from the mode Newton's overshoots."""
    moved = float(np.abs(proposals.features @ step).max())
    return step / max(1.0, moved / MOST_MOVED)

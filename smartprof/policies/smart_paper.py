"""SMART as published, so that what is claimed about it can be checked.

"SMART: When is it Actually Worth Expanding a Speculative Tree?", arXiv 2604.09731. Each request
grows a tree T layer by layer; a child u of a kept node stays if and only if::

    alpha * dC_target(u) / dC_spec(u) > C_target / C_spec

    C_target = c_T * L               dC_target(u) = c_T * f(u) / |P|
    C_spec = lambda * |T| + C(|T|)   dC_spec(u) = lambda + dC/dn at |T|

c_T: seconds per token of plain decoding; it cancels. f(u): path probability. |P|: number of
root-to-leaf paths. L: mean over them of the sum of f along the path. C(n) = gamma * (exp(delta *
n ** rho) - 1), seconds of a pass in which each of the B requests has n tokens, fitted to five
passes; lambda the slope of drafting seconds. A request stops at the full depth, at a layer of which
nothing stays, and at its equal share of the verify budget.

Where the paper leaves a detail open the first choice below is our reading and the default, and the
other is an option:

- the root counts as 1 in L (``root``);
- |P| in dC_target is taken before u is added (``paths``);
- |T| counts the root in drafting as in verifying (``drafted``). Leaving it out of both would make
  C_spec = 0 for the root alone, and nothing would ever be drafted;
- lambda is the slope of the least-squares line through the origin (``slope``).

Without a choice: children are tried from the most probable of a layer to the least, each on the
tree that those before it left. The budget counts nodes beside the roots, as in `cap`. The five
passes have 1, ..., 1 + budget / B tokens per request (up to 5 at least), evenly spaced, at the
mean context of the first round of that batch size and drafter; costs are fitted once for these.

Not in this rule, deliberately: no joint choice over the batch, no price of a draft step as such,
no padding. What that costs is the point of having it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from smartprof.policies.base import NO_NODES, Cut, Policy, Round
from smartprof.policies.exponential import fit_exponential
from smartprof.policies.options import one_of, real, whole
from smartprof.policies.paper_rule import PaperCosts, Reading, kept_nodes
from smartprof.policies.ranking import rank_within

PASSES = 5  # that the curves are fitted to


@dataclass(frozen=True)
class SmartPaperOptions:
    """The published settings, and how the open details are read."""

    alpha: float = real(0.8, 0.01, 100.0, "factor on a node's benefit per cost")
    budget: int = whole(200, 1, 4096, "verified nodes of the whole batch, roots not counted")
    depth: int = whole(6, 1, 64, "layers below the root")
    k: int = whole(10, 1, 64, "children of a node that are considered")
    root: str = one_of("counted", ("left-out",), "the root in the length of a path")
    paths: str = one_of("before", ("after",), "when |P| in a node's benefit is counted")
    drafted: str = one_of("all", ("without-root",), "nodes that drafting is charged for")
    slope: str = one_of("origin", ("offset",), "what the line of drafting seconds passes through")


class SmartPaper(Policy):
    """Keeps a drafted node if its benefit per cost exceeds its tree's; verifies all kept ones."""

    name: ClassVar[str] = "smart-paper"
    paper: ClassVar[str] = "SMART, arXiv 2604.09731"
    summary: ClassVar[str] = "SMART as published: a marginal test per node, its own cost curve"
    options_type = SmartPaperOptions
    options: SmartPaperOptions

    def __init__(self, options: SmartPaperOptions | None = None) -> None:
        super().__init__(options)
        self.reset()

    def reset(self) -> None:
        """Fit costs anew."""
        self._costs: dict[tuple[int, str], PaperCosts] = {}

    def most_nodes(self, batch: int) -> int:
        """The budget's equal share."""
        return self.options.budget // batch

    def most_rows(self, batch: int, most_tokens: int) -> int:
        """Of the widest step that the line of drafting seconds is fitted to."""
        return batch * self._widest(batch) if self.most_nodes(batch) else 0

    def grow(self, round: Round) -> NDArray[np.int64]:
        """The nodes that stay of the newest layer, where depth and budget leave room for more."""
        forest, share = round.forest, self.most_nodes(round.batch)
        if not share:
            return NO_NODES
        kept = self._kept(round)
        verified = np.bincount(forest.request[kept], minlength=round.batch) - 1
        useful = forest.depth < round.reach(self.options.depth)[forest.request]
        room = verified[forest.request] < share
        return (kept & useful & room & ~forest.expanded).nonzero()[0]

    def cut(self, round: Round) -> Cut:
        """All nodes that stay."""
        nodes = self._kept(round)[round.batch :].nonzero()[0] + round.batch
        return Cut(nodes, round.batch + len(nodes))

    def _kept(self, round: Round) -> NDArray[np.bool_]:
        """bool [n]: the roots and the nodes that stay, found again from the first layer on."""
        forest, options = round.forest, self.options
        if forest.size == round.batch:
            return forest.mask(NO_NODES)
        rank = rank_within(forest.parent, forest.path_prob)
        reach = round.reach(options.depth)[forest.request]
        candidate = (rank < options.k) & (forest.depth <= reach)
        reading = Reading(
            alpha=options.alpha,
            root_counts=options.root == "counted",
            paths_after=options.paths == "after",
            draft_root=options.drafted == "all",
        )
        share = self.most_nodes(round.batch)
        return kept_nodes(forest, candidate, share, self._fitted(round), reading)

    def _fitted(self, round: Round) -> PaperCosts:
        """The costs of this batch size and drafter."""
        kind = (round.batch, round.source)
        if kind not in self._costs:
            self._costs[kind] = self._fit(round)
        return self._costs[kind]

    def _fit(self, round: Round) -> PaperCosts:
        costs, batch, context = round.costs, round.batch, round.context
        sizes = np.rint(np.linspace(1, self._widest(batch), PASSES)).astype(np.int64)
        drafting = costs.draft_step(batch, batch * sizes, context)
        return PaperCosts(
            draft_slope=_slope(sizes, drafting, through_origin=self.options.slope == "origin"),
            verify=fit_exponential(sizes, costs.verify(batch, batch * sizes, context)),
        )

    def _widest(self, batch: int) -> int:
        """Tokens per request of the longest pass that costs are fitted to."""
        return max(1 + self.most_nodes(batch), PASSES)


def _slope(sizes: NDArray[np.int64], seconds: NDArray[np.float64], through_origin: bool) -> float:
    """Of the least-squares line through the points."""
    x, y = (sizes, seconds) if through_origin else (sizes - sizes.mean(), seconds - seconds.mean())
    return float(x @ y / (x @ x))

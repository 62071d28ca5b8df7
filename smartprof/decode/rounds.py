"""One decoding round: draft, cut, verify, keep. Every policy and drafter goes through this loop.

Decoding and simulation alike: they differ in the target, which is a model or a record of what one
said (`Verifier`). Knows nothing of torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from smartprof.decode.records import RoundRecord
from smartprof.decode.requests import Progress, Request
from smartprof.decode.stops import Detokenise
from smartprof.decode.verifier import Verifier
from smartprof.drafters.base import Drafter
from smartprof.policies.base import Cut, Offer, Outcome, Policy, Round
from smartprof.trees.forest import Forest
from smartprof.trees.packed import Accepted, PackedTrees, accept, pack

if TYPE_CHECKING:
    from smartprof.profile.cost import Costs


@dataclass(frozen=True)
class Draft:
    """The forest grown in a round, and what growing it took."""

    forest: Forest
    seconds: float
    modelled_seconds: float
    steps: int


@dataclass(frozen=True)
class Price:
    """Modelled seconds of a round and of its parts; the rest is overhead."""

    total: float
    draft: float
    verify: float


class Decoder:
    """A batch of requests decoded by one policy and one drafter; rows 0 ... B-1 are in use."""

    def __init__(
        self,
        target: Verifier,
        drafter: Drafter,
        policy: Policy,
        costs: Costs,
        eos: frozenset[int],
        detokenise: Detokenise | None = None,
    ) -> None:
        """detokenise: text of tokens; needed for requests with stop strings."""
        self.target, self.drafter, self.policy = target, drafter, policy
        self.costs, self.eos, self.detokenise = costs, eos, detokenise
        self._clock = target.clock
        target.attach(drafter)
        self.rows: list[Progress] = []

    @property
    def batch(self) -> int:
        """Requests in flight."""
        return len(self.rows)

    def admit(self, request: Request, index: int) -> float:
        """Prefill a request into the next free row; returns the seconds it took."""
        finder = request.finder(self.detokenise)
        self.target.synchronise()
        start = self._clock()
        row = self.batch
        self.target.admit(row, request)
        self.drafter.admit(row, request.tokens)
        self.rows.append(Progress(request, index, finder=finder))
        self.target.synchronise()
        return self._clock() - start

    def retire(self) -> list[Progress]:
        """Take ended requests out; the last rows move into their places."""
        done = [x for x in self.rows if x.ended]
        for row in reversed(range(self.batch)):
            if not self.rows[row].ended:
                continue
            last = self.batch - 1
            self.drafter.release(row)
            if row != last:
                self.target.move(last, row, self.rows[last].context_len)
                self.drafter.move(last, row)
                self.rows[row] = self.rows[last]
            self.rows.pop()
        return done

    def round(self) -> RoundRecord:
        """Draft, verify and commit at least one token of every request."""
        self.target.synchronise()  # what an earlier round left running is not of this one
        start = self._clock()
        context_lens = np.array([x.context_len for x in self.rows])
        draft, state = self._draft(context_lens)
        cut = self.policy.cut(state)
        trees = pack(draft.forest, cut.nodes)
        verify_start = self._clock()
        choice = self.target.choose(self.rows, trees, context_lens, cut.pad_to)
        verify_seconds = self._clock() - verify_start
        accepted = accept(trees, choice)
        committed = self._commit(trees, accepted, context_lens)
        price = self._price(draft, cut, state)
        self._observe(draft, cut, trees, accepted, committed, price.total)
        self.target.synchronise()
        return RoundRecord(
            seconds=self._clock() - start,
            draft_seconds=draft.seconds,
            verify_seconds=verify_seconds,
            modelled_seconds=price.total,
            modelled_draft_seconds=price.draft,
            modelled_verify_seconds=price.verify,
            draft_steps=draft.steps,
            verify_tokens=cut.pad_to,
            committed=committed,
            accepted=np.minimum(accepted.lengths, committed),  # not those behind an end
            tree_size=trees.counts,
            context_lens=context_lens,
            requests=np.array([x.index for x in self.rows]),
        )

    def _draft(self, context_lens: NDArray[np.int64]) -> tuple[Draft, Round]:
        """Grow a forest as the policy says; also what it knew at the end."""
        newest = [(x.output or x.request.tokens)[-1] for x in self.rows]
        draft = Draft(Forest.roots(np.array(newest)), 0.0, 0.0, 0)
        state = self._begin(draft.forest, context_lens)
        nodes = self.policy.grow(state)
        start = self._clock()
        while nodes.size:
            price = self._draft_price(draft, len(nodes), state)
            children = self.drafter.expand(draft.forest, nodes)
            draft = Draft(
                draft.forest.extend(nodes, children),
                self._clock() - start,
                draft.modelled_seconds + price,
                draft.steps + 1,
            )
            state = replace(state, forest=draft.forest, drafted_seconds=draft.modelled_seconds)
            nodes = self.policy.grow(state)
        return draft, state

    def _begin(self, forest: Forest, context_lens: NDArray[np.int64]) -> Round:
        """The round before anything is drafted, with the source that the policy chose."""
        sources = self.drafter.sources
        offers = [Offer(x, self.costs.source(x), self.drafter.pending(x)) for x in sources]
        state = Round(
            forest=forest,
            context_lens=context_lens,
            room=np.array([x.room for x in self.rows]),
            costs=offers[-1].costs,
            plain_seconds=self.costs.plain_decode(self.batch, float(context_lens.mean())),
            drafted_seconds=0.0,
            noted=offers[-1].noted,
            source=offers[-1].source,
        )
        chosen = self.policy.choose(state, offers, self.drafter.outlook)
        self.drafter.begin(chosen.source)
        return replace(state, costs=chosen.costs, noted=chosen.noted, source=chosen.source)

    def _draft_price(self, draft: Draft, rows: int, state: Round) -> float:
        """Modelled seconds of the next step; the roots take in what was committed before."""
        if draft.steps:
            return float(state.costs.draft_step(self.batch, rows, state.context))
        accepted = max(self.batch, state.noted)
        return float(state.costs.draft_catchup(self.batch, accepted, state.context))

    def _price(self, draft: Draft, cut: Cut, state: Round) -> Price:
        """Modelled seconds of the whole round."""
        overhead = float(self.costs.round_overhead(self.batch, cut.pad_to))
        if not draft.steps and cut.pad_to == self.batch:
            total = state.plain_seconds  # measured as a whole
            return Price(total, 0.0, max(0.0, total - overhead))
        verify = float(self.costs.verify(self.batch, cut.pad_to, state.context))
        seconds = draft.modelled_seconds
        return Price(seconds + verify + overhead, seconds, verify)

    def _commit(
        self, trees: PackedTrees, accepted: Accepted, context_lens: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Take accepted tokens and the target's own next one into every request."""
        self.target.keep(trees, accepted, context_lens)
        counts = np.zeros(self.batch, np.int64)
        for row, path in enumerate(accepted.paths):
            tokens = [*trees.token[path].tolist(), int(accepted.bonus[row])]
            kept = self.rows[row].commit(tokens, self.eos)
            self.drafter.commit(row, kept)
            counts[row] = len(kept)
        return counts

    def _observe(
        self,
        draft: Draft,
        cut: Cut,
        trees: PackedTrees,
        accepted: Accepted,
        committed: NDArray[np.int64],
        modelled: float,
    ) -> None:
        """Show the outcome to those who learn from it."""
        on_path = np.zeros(draft.forest.size, np.bool_)
        on_path[trees.node[np.concatenate(accepted.paths)]] = True
        outcome = Outcome(committed, modelled, draft.steps > 0, draft.forest, cut, on_path)
        self.policy.observe(outcome)
        if draft.steps:
            self.drafter.learn(outcome)

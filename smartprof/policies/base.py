"""The two decisions of a round, and what a policy is told about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from smartprof.policies.options import NoOptions
from smartprof.trees.forest import Forest

if TYPE_CHECKING:
    from smartprof.profile.cost import Costs

NO_NODES: NDArray[np.int64] = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Round:
    """Everything a decision may depend on, for the B requests of the batch.

    context_lens: int64 [B], committed tokens before the round, roots included.
    room: int64 [B] >= 1, the most tokens each request may still commit in this round. Accepting a
    node at depth d commits d + 1 tokens, so nodes deeper than room - 1 are useless.
    plain_seconds: a whole plain round of this batch at its mean context.
    drafted_seconds: modelled seconds spent on drafting in this round so far.
    noted: committed tokens of the batch that the drafter has not taken in yet.
    source: what the round is drafted with.
    """

    forest: Forest
    context_lens: NDArray[np.int64]
    room: NDArray[np.int64]
    costs: Costs
    plain_seconds: float
    drafted_seconds: float
    noted: int = 0
    source: str = ""

    @property
    def batch(self) -> int:
        """Requests in the batch."""
        return self.forest.num_requests

    @cached_property
    def context(self) -> float:
        """Mean committed tokens per request."""
        return float(self.context_lens.sum()) / self.batch

    def reach(self, depth: int) -> NDArray[np.int64]:
        """int64 [B]: the deepest useful depth of each request's tree, at most `depth`."""
        return np.minimum(self.room - 1, depth)


@dataclass(frozen=True, eq=False)
class Offer:
    """One way to draft in a round.

    source: its name in the profile. costs: prices of drafting with it. noted: committed tokens of
    the batch that it has not taken in yet.
    """

    source: str
    costs: Costs
    noted: int


@dataclass(frozen=True, eq=False)
class Cut:
    """The choice for the verify pass.

    nodes: int64 [N], forest nodes without roots, prefix-closed.
    pad_to: tokens that the pass really runs, at least B + N.
    """

    nodes: NDArray[np.int64]
    pad_to: int


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a round.

    committed: int64 [B], tokens committed. modelled_seconds: the whole round, from the profile.
    drafted: whether anything was expanded. accepted: bool [n] over the forest's nodes; whether
    roots are marked does not matter.
    """

    committed: NDArray[np.int64]
    modelled_seconds: float
    drafted: bool
    forest: Forest
    cut: Cut
    accepted: NDArray[np.bool_]

    @property
    def verified(self) -> NDArray[np.bool_]:
        """bool [n]: nodes the target saw, roots included."""
        return self.forest.mask(self.cut.nodes)

    @property
    def reached(self) -> NDArray[np.bool_]:
        """bool [n]: verified nodes other than roots whose parent is on the target's own path.

        Exactly these were put to the test: each was accepted or it was not.
        """
        on_path = self.accepted.copy()
        on_path[: self.forest.num_requests] = True
        reached = self.verified & on_path[self.forest.parent]
        reached[: self.forest.num_requests] = False
        return reached


class Policy(ABC):
    """Decides each round what to draft and what to verify, over the whole batch at once."""

    name: ClassVar[str]
    paper: ClassVar[str] = "none"  # where the rule was published
    summary: ClassVar[str] = ""  # the rule in a few words, for lists
    options_type: ClassVar[type[Any]] = NoOptions
    options: Any
    calibrated = True  # False: goes by what a drafter states, whatever was learned of it

    def __init__(self, options: Any = None) -> None:
        """options: an `options_type`; default: all its defaults."""
        self.options = options if options is not None else self.options_type()

    def most_nodes(self, batch: int) -> int | None:
        """Most nodes verified per request; None: the policy stays within what was measured."""
        return None

    def most_rows(self, batch: int, most_tokens: int) -> int | None:
        """Most nodes, over the batch, of one draft step that is taken or priced; 0: none is.

        most_tokens: of a verify pass, as measured. None: not known beforehand; such a policy is
        asked before a run for a round in which nothing is proposed, and shows what it prices there.
        """
        return None

    def choose(self, round: Round, offers: Sequence[Offer], outlook: Callable[[], float]) -> Offer:
        """What this round is drafted with, if it is; called before `grow`.

        offers: the cheapest first, the fullest last. `round` is priced by the fullest. outlook: the
        chance, on average over the requests, that the best proposal of a lookup is right, where the
        drafter has one beside a model; it takes a moment to find out.
        """
        return offers[-1]

    @abstractmethod
    def grow(self, round: Round) -> NDArray[np.int64]:
        """Frontier nodes to expand next; empty to stop.

        The first call of a round sees only roots: expanding them is the drafter's catch-up and its
        first proposals. Later calls are draft steps. Stopping at once means not to draft at all.
        """

    @abstractmethod
    def cut(self, round: Round) -> Cut:
        """The drafted nodes to verify; called once, after growing."""

    def observe(self, outcome: Outcome) -> None:  # noqa: B027 - most policies learn nothing
        """Learn from a finished round; called after every round."""

    def reset(self) -> None:  # noqa: B027 - most policies hold no state
        """Forget everything learned, before a new run."""

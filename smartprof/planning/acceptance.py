"""What a plan is told about acceptance: rates by depth and rank, and how many trials they rest on.

The neutral input of `plan` and `export`. Every source makes one of these; nothing behind them
knows where the figures came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from smartprof.errors import InputError
from smartprof.trees.positional import PositionalAcceptance

PRIOR = 0.5  # Jeffreys: what a Dirichlet adds to each count before it is drawn from


@dataclass(frozen=True)
class Acceptance:
    """Positional acceptance with its origin, and with counts where there are any.

    positional: conditional rates, which hold given that the parent was accepted.
    origin: what a person reads of where they come from, in a few words.
    tried: per depth of `positional`, at least 1: nodes of that depth whose parent was accepted,
    one per request and round, which is what the rates are shares of. None: the rates were stated,
    not counted, and no interval can tell how far off they are.
    deepest: nothing is known below this depth; None: the last rates hold below, as was stated.
    synthetic: an assumption; every output says so.
    remarks: what a person should know beside, a sentence each.
    """

    positional: PositionalAcceptance
    origin: str
    tried: tuple[int, ...] | None = None
    deepest: int | None = None
    synthetic: bool = False
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for trials that do not fit the rates."""
        if self.tried is not None and (
            len(self.tried) != len(self.positional.rates) or min(self.tried) < 1
        ):
            raise ValueError("expected at least one trial for each depth")

    @classmethod
    def counted(
        cls,
        accepted: Sequence[Sequence[int]],
        tried: Sequence[int],
        origin: str,
        remarks: tuple[str, ...] = (),
    ) -> Acceptance:
        """From counts per depth: of each rank how often it was accepted, and of how many trials.

        Depths without a trial are left out with all below: nothing is known of them. Raises
        InputError if no depth has one, or more were accepted than tried.
        """
        known = next((i for i, x in enumerate(tried) if x < 1), len(tried))
        if not known:
            raise InputError(f"{origin}: expected drafts that were verified, got none")
        for depth, (ranks, trials) in enumerate(zip(accepted[:known], tried, strict=False), 1):
            if sum(ranks) > trials:
                raise InputError(
                    f"{origin}: expected at most {trials} accepted at depth {depth}, got "
                    f"{sum(ranks)}"
                )
        rates = tuple(
            tuple(x / trials for x in ranks)
            for ranks, trials in zip(accepted[:known], tried, strict=False)
        )
        return cls(
            PositionalAcceptance(rates), origin, tuple(tried[:known]), known, remarks=remarks
        )

    @property
    def heading(self) -> str:
        """The origin as every output repeats it."""
        return f"SYNTHETIC acceptance, {self.origin}" if self.synthetic else self.origin

    def draws(self, count: int, seed: int = 0) -> NDArray[np.float64]:
        """float64 [count, depths, ranks]: rates that the counts allow, of a Dirichlet per depth.

        Without counts the rates themselves, `count` times.
        """
        table = self.positional.table
        if self.tried is None:
            return np.broadcast_to(table, (count, *table.shape))
        random = np.random.default_rng(seed)
        drawn = np.zeros((count, *table.shape))
        for depth, (rates, trials) in enumerate(
            zip(self.positional.rates, self.tried, strict=True)
        ):
            hits = trials * np.array(rates)
            rest = max(trials - float(hits.sum()), 0.0)
            shares = random.dirichlet(np.append(hits, rest) + PRIOR, count)
            drawn[:, depth, : len(rates)] = shares[:, :-1]
        return drawn


def require_falling(positional: PositionalAcceptance) -> PositionalAcceptance:
    """The same; InputError if stated rates rise with rank, or those of the best child with depth.

    Counted ones may rise: by chance, and because a request that got far is an easy one. Stated ones
    that do are a slip.
    """
    for depth, rates in enumerate(positional.rates, 1):
        for before, after in pairwise(rates):
            if after > before:
                raise InputError(
                    f"expected acceptance that does not rise with rank, got {after:g} after "
                    f"{before:g} at depth {depth}: give the most probable child first"
                )
    for depth, (before, after) in enumerate(pairwise(x[0] for x in positional.rates), 2):
        if after > before:
            raise InputError(
                f"expected acceptance that does not rise with depth, got {after:g} at depth "
                f"{depth} after {before:g}: give each depth's rate given that its parent was "
                "accepted"
            )
    return positional

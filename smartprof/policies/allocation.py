"""The arithmetic of `smart`: exact choice of a tree size, and the price of one more draft step.

Plain functions of sorted probabilities and seconds. The currency is tokens: a second is worth
`theta` tokens, the long-run rate of committing them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ranked:
    """Candidates for a verify pass, parents before children.

    node: int64 [K]. worth: float64 [K], tokens that verifying a node brings, beside what the size
    of the pass costs; never more than its parent's. forced: how many in front are chosen in any
    case; the worth falls over these and over the rest.
    """

    node: NDArray[np.int64]
    worth: Floats
    forced: int = 0


@dataclass(frozen=True, eq=False)
class Allocation:
    """What to verify, what the pass is padded to, and what that brings.

    nodes: int64 [N], beside the roots. worth: float64 [N], theirs. pad_to: tokens really run.
    value: tokens, see `allocate`.
    """

    nodes: NDArray[np.int64]
    worth: Floats
    pad_to: int
    value: float


def allocate(
    ranked: Ranked, seconds: Floats, pad_to: NDArray[np.integer], theta: float
) -> Allocation:
    """The best prefix of the ranked nodes, by exact scan.

    Maximises ``sum of the worth of the first N nodes - theta * C(B + N)`` over every N, for costs
    of any shape. The worth never rises from parent to child, so the N worthiest over all requests
    are prefix-closed and the best choice of their size; scanning all N is therefore exact. Stopping
    at the first drop would not be: costs have stairs and dips.

    seconds, pad_to: [> = K + 1], round seconds of verifying N nodes and the size that the pass is
    padded to for it. Ties go to the smaller N.
    """
    objective = _objective(ranked, seconds, theta)
    count = ranked.forced + int(objective[ranked.forced :].argmax())
    return _first(ranked, count, pad_to, objective)


def allocate_to_first_drop(
    ranked: Ranked, seconds: Floats, pad_to: NDArray[np.integer], theta: float
) -> Allocation:
    """The prefix that adding nodes until the objective first fails to rise ends with.

    What `allocate` is compared with; exact for convex costs only. Arguments as there.
    """
    objective = _objective(ranked, seconds, theta)
    falls = np.flatnonzero(np.diff(objective[ranked.forced :]) <= 0)
    count = ranked.forced + int(falls[0]) if falls.size else len(ranked.node)
    return _first(ranked, count, pad_to, objective)


def _objective(ranked: Ranked, seconds: Floats, theta: float) -> Floats:
    """Tokens, net of seconds at `theta`, of verifying 0, 1, ... of the ranked nodes."""
    objective = -theta * seconds[: len(ranked.node) + 1]
    objective[1:] += ranked.worth.cumsum()
    return objective


def _first(
    ranked: Ranked, count: int, pad_to: NDArray[np.integer], objective: Floats
) -> Allocation:
    chosen, worth = ranked.node[:count], ranked.worth[:count]
    return Allocation(chosen, worth, int(pad_to[count]), float(objective[count]))


def no_step_can_pay(frontier: Floats, step_seconds: Floats, theta: float) -> bool:
    """Whether stopping is proven best against every deeper tree.

    True iff for *every* width w the w largest path probabilities of the frontier (all of them, if
    there are fewer) sum to at most the price of a step of that width. The frontier is an antichain
    and children sum to at most their parent, so no later step of width w can add more than the w
    best of today's frontier; with steps that get no cheaper with depth, and larger passes no
    cheaper to verify, none ever pays. One width alone proves nothing: ten nodes of 0.3 at
    1 + 0.01 w tokens a step lose 0.71 at width 1 and gain 1.9 at width 10.

    frontier: float64 [K], descending. step_seconds: float64 [>= K], for widths 1, 2, ...
    """
    # the sums never fall with w, so comparing with the cheapest width >= w asks the same
    cheapest = np.minimum.accumulate(step_seconds[::-1])[::-1][: len(frontier)]
    return bool((frontier.cumsum() <= theta * cheapest).all())


def best_width(
    frontier: Floats,
    ratio: float,
    displaced: Floats,
    verify_seconds: Floats,
    step_seconds: Floats,
    theta: float,
) -> int:
    """How many of the best frontier nodes to expand, 0 to stop: an estimate, not a proof.

    Expects every expanded node to yield one child worth verifying, with `ratio` of its parent's
    path probability. w children either take the places of the w least probable nodes verified
    so far or enlarge the pass, whichever is cheaper::

        gain(w) = ratio * sum f - min(sum displaced, theta * extra verify) - theta * step(w)

    frontier: float64 [K], descending. displaced: float64 [N], the path probabilities that would be
    verified without this step, ascending. verify_seconds: float64 [>= 1], seconds of a pass
    enlarged by 0, 1, ... nodes; larger passes are out of the question. step_seconds: float64
    [>= K], for widths 1, 2, ...
    """
    count = len(frontier)
    enlarging = np.full(count, np.inf)
    known = verify_seconds[1 : count + 1]
    enlarging[: len(known)] = theta * (known - verify_seconds[0])
    replacing = displaced[:count].cumsum()
    enlarging[: len(replacing)] = np.minimum(enlarging[: len(replacing)], replacing)
    gain = ratio * frontier.cumsum() - enlarging - theta * step_seconds[:count]
    width = int(gain.argmax())
    return width + 1 if gain[width] > 0 else 0

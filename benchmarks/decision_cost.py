"""What deciding costs: seconds of `smart`'s grow and cut in a round, on one core.

    python benchmarks/decision_cost.py [--profile xeon-2t-smollm2.json] [--batch 32]
        [--candidates 64] [--steps 4]

The trees of a round are drawn at random and grown in a number of equal draft steps to so many
candidates per request, whatever the policy answers: every decision then sees as much as it can.
Needs no model. Prints the median and spread over rounds for each policy named, and the share of a
plain round of this batch by the profile. Bar: 1 ms for `smart` at batch 32 with 64 candidates.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from numpy.typing import NDArray

from smartprof.policies.base import Outcome, Policy, Round
from smartprof.policies.table import make_policy
from smartprof.profile.cost import CostModel
from smartprof.profile.files import find_profile, load_profile
from smartprof.trees.forest import Children, Forest

BAR_SECONDS = 1e-3
WIDTH = 8  # children of an expanded node
WARM_UP = 10  # rounds


def grown(rng: np.random.Generator, batch: int, candidates: int, steps: int) -> list[Forest]:
    """The forests before each decision of one round: roots alone, after each step."""
    forest = Forest.roots(rng.integers(0, 1000, batch))
    forests = [forest]
    for step in range(1, steps + 1):
        wanted = batch * (candidates * step // steps) + batch - forest.size
        nodes = best_leaves(forest, -(-wanted // WIDTH))
        forest = forest.extend(nodes, children_of(rng, nodes, wanted))
        forests.append(forest)
    return forests


def best_leaves(forest: Forest, count: int) -> NDArray[np.int64]:
    """The most probable nodes that are not expanded."""
    leaves = forest.frontier
    return leaves[(-forest.path_prob[leaves]).argsort(kind="stable")[:count]]


def children_of(rng: np.random.Generator, nodes: NDArray[np.int64], count: int) -> Children:
    """So many children over the nodes, each node's falling in probability."""
    conditional = np.sort(rng.dirichlet(np.full(WIDTH + 1, 0.4), len(nodes))[:, 1:])[:, ::-1]
    parent = np.repeat(nodes, WIDTH)[:count]
    token = np.tile(np.arange(WIDTH), len(nodes))[:count]
    return Children(parent.astype(np.int32), token, conditional.ravel()[:count].clip(1e-6))


def round_seconds(policy: Policy, costs: CostModel, forests: list[Forest], context: float) -> float:
    """Every grow and the cut of one round; what the policy learns from it is not counted."""
    batch = forests[0].num_requests
    lengths = np.full(batch, int(context))
    plain = costs.plain_decode(batch, context)
    source = costs.drafter or ""
    states = [
        Round(x, lengths, np.full(batch, 100), costs, plain, 0.0, batch, source) for x in forests
    ]
    start = time.perf_counter()
    for state in states:
        policy.grow(state)
    cut = policy.cut(states[-1])
    seconds = time.perf_counter() - start
    accepted = np.zeros(forests[-1].size, np.bool_)
    policy.observe(Outcome(np.full(batch, 2), plain, True, forests[-1], cut, accepted))
    return seconds


def main() -> None:
    """Print one line per policy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="xeon-2t-smollm2.json")
    parser.add_argument("--policies", default="smart,eagle2:m=60:k=10,smart-paper")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--candidates", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--context", type=float, default=256.0)
    asked = parser.parse_args()
    profile = load_profile(find_profile(asked.profile))
    costs = CostModel(profile, sorted(profile.drafters)[0])
    plain = costs.plain_decode(asked.batch, asked.context)
    rng = np.random.default_rng(0)
    trees = [grown(rng, asked.batch, asked.candidates, asked.steps) for _ in range(8)]
    policies = {x: make_policy(x) for x in asked.policies.split(",")}
    seconds: dict[str, list[float]] = {x: [] for x in policies}
    for number in range(asked.rounds + WARM_UP):
        for name, policy in policies.items():
            taken = round_seconds(policy, costs, trees[number % len(trees)], asked.context)
            if number >= WARM_UP:
                seconds[name].append(taken)
    print(f"batch {asked.batch}, {asked.candidates} candidates each, {asked.steps} draft steps")
    for name, taken in seconds.items():
        print(line(name, taken, plain))


def line(name: str, taken: list[float], plain: float) -> str:
    """Median, spread and share of a plain round."""
    middle = statistics.median(taken)
    low, high = np.quantile(taken, [0.05, 0.95])
    return (
        f"{name}: {middle * 1e3:.2f} ms ({low * 1e3:.2f} to {high * 1e3:.2f}), "
        f"{100 * middle / plain:.2f} % of a plain round of {plain * 1e3:.0f} ms"
    )


if __name__ == "__main__":
    main()

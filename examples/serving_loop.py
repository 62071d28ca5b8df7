"""A toy server steered by a policy: requests arrive at random, rounds take modelled seconds.

Only numpy and a profile: an engine in Python can take over `serve_round` with its own drafter and
target. Acceptance is SYNTHETIC here: a node's two children are right with probabilities RATES.
"""

from dataclasses import replace

import numpy as np

from smartprof import CostModel, find_profile, load_profile, make_policy
from smartprof.policies.base import Outcome, Policy, Round
from smartprof.trees.forest import Children, Forest

RATES = np.array([0.6, 0.15])
PROMPT, ANSWER, MOST = 200, 100, 16  # tokens, tokens, requests in flight


def draft(policy: Policy, state: Round) -> Round:
    """Expand what the policy asks for until it stops, and price each step."""
    costs, batch = state.costs, state.batch
    while (nodes := policy.grow(state)).size:
        if state.forest.expanded.any():
            price = costs.draft_step(batch, len(nodes), state.context)
        else:
            price = costs.draft_catchup(batch, batch, state.context)
        tokens = np.tile(np.arange(len(RATES)), len(nodes))
        parents = np.repeat(nodes, len(RATES))
        children = Children.checked(parents, tokens, RATES[tokens])
        drafted = state.drafted_seconds + float(price)
        forest = state.forest.extend(nodes, children)
        state = replace(state, forest=forest, drafted_seconds=drafted)
    return state


def serve_round(policy: Policy, start: Round, random: np.random.Generator) -> Outcome:
    """Draft, verify and commit; the target takes each child with its probability, or none."""
    state, batch = draft(policy, start), start.batch
    cut, forest = policy.cut(state), state.forest
    accepted = np.arange(forest.size) < batch
    for parent in np.unique(forest.parent[cut.nodes]):  # parents come before their children
        children = cut.nodes[forest.parent[cut.nodes] == parent]
        token = random.choice(len(RATES) + 1, p=[*RATES, 1 - RATES.sum()])
        accepted[children[forest.token[children] == token]] = accepted[parent]
    committed = np.minimum(np.bincount(forest.request[accepted], minlength=batch), state.room)
    drafted, seconds = forest.size > batch, state.plain_seconds
    if drafted:
        verify = state.costs.verify(batch, cut.pad_to, state.context)
        overhead = state.costs.round_overhead(batch, cut.pad_to)
        seconds = state.drafted_seconds + float(verify) + float(overhead)
    return Outcome(committed, seconds, drafted, forest, cut, accepted)


def serve(name: str, arrivals_per_second: float, seconds: float = 60.0, seed: int = 0) -> float:
    """Mean seconds that a request in flight waits for a token, under this policy."""
    costs = CostModel(load_profile(find_profile("xeon-2t-smollm2.json")), "ngram")
    policy, random = make_policy(name), np.random.default_rng(seed)
    due = random.exponential(1 / arrivals_per_second)
    lens, left, now, tokens, waited = np.zeros(0, int), np.zeros(0, int), 0.0, 0, 0.0
    while now < seconds:
        now = now if len(lens) else max(now, due)
        while due <= now and len(lens) < MOST:
            lens, left = np.append(lens, PROMPT), np.append(left, ANSWER)
            due += random.exponential(1 / arrivals_per_second)
        plain = costs.plain_decode(len(lens), float(lens.mean()))
        roots = Forest.roots(np.zeros(len(lens), int))
        start = Round(roots, lens, left, costs, plain, 0.0, len(lens), "ngram")
        outcome = serve_round(policy, start, random)
        policy.observe(outcome)
        now, tokens = now + outcome.modelled_seconds, tokens + int(outcome.committed.sum())
        waited += outcome.modelled_seconds * len(lens)
        lens, left = lens + outcome.committed, left - outcome.committed
        lens, left = lens[left > 0], left[left > 0]
    return waited / tokens


if __name__ == "__main__":
    print("milliseconds per token and request: modelled seconds, SYNTHETIC acceptance")
    for load in (0.2, 0.5, 4.0):
        waits = (f"{x} {1e3 * serve(x, load):.1f}" for x in ("plain", "chain:k=4", "smart"))
        print(f"{load} arrivals per second: {', '.join(waits)}")

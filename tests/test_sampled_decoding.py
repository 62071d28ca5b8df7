"""Sampled decoding: the same tokens under every policy, with the distribution asked for."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from smartprof.decode import target as target_module
from smartprof.decode.choosers import Chooser, RowChooser, chooser_for, greedy
from smartprof.decode.equality import compare
from smartprof.decode.noise import gumbel
from smartprof.decode.records import Equality
from smartprof.decode.requests import Progress, Request
from smartprof.decode.sampling import GREEDY, Sampling
from smartprof.decode.target import Target
from smartprof.decode.warping import threshold
from smartprof.drafters.ngram import NgramDrafter
from smartprof.trees.forest import Children, Forest
from smartprof.trees.packed import PackedTrees, pack
from tests.tiny_decoding import (
    CAPACITY,
    POLICIES,
    TINY,
    OracleDrafter,
    WholeTree,
    decoded,
    loud_model,
    outputs,
    random_requests,
    truth_of,
)

NUCLEUS = Sampling(temperature=0.7, top_p=0.9, seed=5)
EVERYTHING = Sampling(1.5, top_k=30, top_p=0.95, min_p=0.01, repetition_penalty=1.2, seed=6)


@pytest.mark.parametrize(("batch", "policy"), [*product((1, 4, 8), POLICIES)])
def test_sampled_tokens_are_those_of_plain_decoding(policy: str, batch: int) -> None:
    requests = random_requests(8, new=20, sampling=NUCLEUS)
    plain = plain_outputs(NUCLEUS)
    assert outputs(decoded(loud_model(), policy, requests, batch)) == plain
    drafter = OracleDrafter(truth_of(requests, plain), 1)
    lane = decoded(loud_model(), policy, requests, batch, drafter)
    assert outputs(lane) == plain
    assert sum(int(x.accepted.sum()) for x in lane.counted) > 10  # drafts were really accepted


@pytest.mark.parametrize(
    "sampling", [EVERYTHING, Sampling(temperature=1.0), Sampling(repetition_penalty=1.3)]
)
def test_other_settings_are_lossless_too(sampling: Sampling) -> None:
    requests, plain = random_requests(8, new=20, sampling=sampling), plain_outputs(sampling)
    drafter = OracleDrafter(truth_of(requests, plain), 1)
    assert outputs(decoded(loud_model(), WholeTree(), requests, 3, drafter)) == plain


@cache
def plain_outputs(sampling: Sampling) -> list[list[int]]:
    return outputs(decoded(loud_model(), "plain", random_requests(8, new=20, sampling=sampling), 2))


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others() -> None:
    requests = random_requests(8, new=20, sampling=NUCLEUS)
    assert outputs(decoded(loud_model(), "plain", requests, 5)) == plain_outputs(NUCLEUS)
    others = plain_outputs(replace(NUCLEUS, seed=7))
    assert all(x != y for x, y in zip(others, plain_outputs(NUCLEUS), strict=True))


def test_copies_of_one_prompt_differ() -> None:
    requests = random_requests(1, new=20, sampling=NUCLEUS) * 4
    found = outputs(decoded(loud_model(), "plain", requests, 2))
    assert len({tuple(x) for x in found}) == 4


def test_settings_change_what_is_decoded() -> None:
    settings = (GREEDY, NUCLEUS, EVERYTHING, Sampling(repetition_penalty=1.3))
    assert len({str(plain_outputs(x)) for x in settings}) == len(settings)


def test_a_repetition_penalty_repeats_less() -> None:
    free, penalised = (
        sum(len(set(x)) for x in plain_outputs(sampling))
        for sampling in (GREEDY, Sampling(repetition_penalty=100.0))
    )
    assert penalised > free


def test_requests_of_one_batch_may_have_different_settings() -> None:
    settings = (NUCLEUS, GREEDY, Sampling(repetition_penalty=1.3), EVERYTHING)
    apart = [plain_outputs(x) for x in settings]
    requests = [
        replace(x, sampling=settings[i % 4]) for i, x in enumerate(random_requests(8, new=20))
    ]
    together = outputs(decoded(loud_model(), "chain:k=3", requests, 8))
    assert together == [apart[i % 4][i] for i in range(8)]


@pytest.mark.long
@pytest.mark.parametrize("drafter", ["ngram", "oracle"])
def test_twenty_thousand_sampled_tokens_are_those_of_plain_decoding(drafter: str) -> None:
    """With each drafter, over policies and batches of 1 to 16."""
    found = Equality(0, 0, 0)
    for seed, batch in enumerate((1, 2, 4, 8, 16)):
        sampling = replace(NUCLEUS, seed=seed)
        requests = random_requests(max(16, 2 * batch), seed=seed, new=80, sampling=sampling)
        plain = outputs(decoded(loud_model(), "plain", requests, batch))
        for policy in POLICIES:
            oracle = OracleDrafter(truth_of(requests, plain), seed)
            made = oracle if drafter == "oracle" else NgramDrafter()
            lane = decoded(loud_model(), policy, requests, batch, made)
            for done in lane.finished:
                found += compare(lane.decoder.target, done, plain[done.index], frozenset())
    assert found.tokens >= 20_000
    assert found.identical, found


@pytest.mark.parametrize("spread", [1.0, 8.0])
@pytest.mark.parametrize("sampling", [Sampling(temperature=1.0), NUCLEUS, EVERYTHING])
def test_leaving_out_tokens_that_cannot_win_changes_nothing(
    sampling: Sampling, spread: float
) -> None:
    """Against noise for all tokens: few can win where logits are spread, all where they are not."""
    rows, vocab = 60, 3000
    logits = spread * torch.randn((rows, vocab), generator=torch.Generator().manual_seed(4))
    numbers = np.arange(rows)
    seen = (numbers, numbers) if sampling.repetition_penalty != 1 else ()
    chooser = RowChooser(sampling, numbers, numbers % 7, *seen)
    values = chooser.warped(logits)
    noise = gumbel(chooser.noise_states(logits.device)[:, None], torch.arange(vocab))
    kept = values >= threshold(values, sampling)[:, None]
    scores = (values.double() + noise).masked_fill(~kept, -torch.inf)
    assert chooser(logits).tolist() == scores.argmax(dim=-1).tolist()
    assert (scores.argmax(dim=-1) != values.argmax(dim=-1)).any()


def test_every_node_is_chosen_for_as_if_its_path_were_the_text() -> None:
    """Position and penalty follow the path from the root; siblings do not see each other."""
    rng = np.random.default_rng(2)
    rows = [Progress(x, i, [3, 4]) for i, x in enumerate(random_requests(3, sampling=EVERYTHING))]
    forest = Forest.roots(np.array([4, 4, 4]))
    for _ in range(3):
        nodes = forest.frontier[:5]
        parents = np.repeat(nodes, 2).astype(np.int32)
        tokens = rng.permutation(TINY.vocab)[: len(parents)].astype(np.int64)
        forest = forest.extend(nodes, Children(parents, tokens, np.full(len(parents), 0.2)))
    trees = pack(forest, np.arange(3, forest.size))
    logits = 2 * torch.randn((len(trees.token), TINY.vocab))
    lengths = np.array([x.context_len for x in rows])
    found = chooser_for(rows, trees, lengths)(logits).tolist()
    for node, token in enumerate(found):
        path: list[int] = []
        above = node
        while trees.parent[above] >= 0:
            path.insert(0, int(trees.token[above]))
            above = int(trees.parent[above])
        one = rows[int(trees.request[node])]
        alone = replace_output(one, [*one.output, *path])
        root = pack(Forest.roots(np.array([alone.output[-1]])), np.array([], np.int64))
        choose = chooser_for([alone], root, np.array([alone.context_len]))
        assert choose(logits[node : node + 1]).tolist() == [token]


def replace_output(progress: Progress, output: list[int]) -> Progress:
    return Progress(progress.request, progress.index, output)


def test_greedy_decoding_takes_the_plain_argmax() -> None:
    rows = [Progress(x, 0) for x in random_requests(2)]
    trees = pack(Forest.roots(np.array([1, 2])), np.array([], np.int64))
    assert chooser_for(rows, trees, np.array([4, 4])) is greedy


# The distribution of outputs, over many requests with seeds of their own.

LAW = Sampling(temperature=2.5, top_k=4, seed=1)
PROMPT = (5, 9, 31, 7)
LENGTH = 3
SIBLINGS = 3
BATCH = 16


@cache
def next_probs(prefix: tuple[int, ...]) -> dict[int, float]:
    """Exact probabilities of the tokens that follow PROMPT and a prefix, the likeliest first."""
    target = Target(loud_model(), 1, CAPACITY)
    text = [*PROMPT, *prefix]
    target.prefill(0, text)
    root = pack(Forest.roots(np.array(text[-1:])), np.array([], np.int64))
    logits = target.scores(root, np.array([len(text)]))[0].double().numpy() / LAW.temperature
    best = np.argsort(-logits)[: LAW.top_k]
    weight = np.exp(logits[best] - logits[best[0]])
    return dict(zip(best.tolist(), (weight / weight.sum()).tolist(), strict=True))


def exact_law() -> dict[tuple[int, ...], float]:
    law: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(LENGTH):
        law = {(*x, t): p * q for x, p in law.items() for t, q in next_probs(x).items()}
    return law


class LikelyDrafter(OracleDrafter):
    """Proposes the likeliest tokens of the target below every node, all equally probable."""

    def __init__(self) -> None:
        super().__init__({}, 0)

    def expand(self, forest: Forest, nodes: NDArray[np.int64]) -> Children:
        parents, tokens = [], []
        for node in nodes.tolist():
            path: list[int] = []
            above = node
            while forest.parent[above] >= 0:
                path.insert(0, int(forest.token[above]))
                above = int(forest.parent[above])
            output = self.rows[int(forest.request[node])][1]
            likely = [*next_probs((*output, *path))][:SIBLINGS] if len(output) < LENGTH else []
            parents += [node] * len(likely)
            tokens += likely
        probs = np.full(len(tokens), 1 / SIBLINGS)
        return Children(np.array(parents, np.int32), np.array(tokens, np.int64), probs)


def p_value(requests: int) -> float:
    """Chi-square of the outputs of the real decoder with wide trees against the exact law."""
    law = exact_law()
    request = Request("p", "test", "test", PROMPT, LENGTH, LAW)
    lane = decoded(loud_model(), WholeTree(), [request] * requests, BATCH, LikelyDrafter())
    assert max(int(x.tree_size.max()) for x in lane.counted) == 1 + SIBLINGS + SIBLINGS**2
    assert max(int(x.accepted.max()) for x in lane.counted) == 2
    found = [tuple(x) for x in outputs(lane)]
    assert set(found) <= set(law)
    expected = np.array([*law.values()]) * requests
    counts = np.array([found.count(x) for x in law])
    assert expected.min() > 5  # what the test asks for
    return float(stats.chisquare(counts, expected).pvalue)


def test_outputs_follow_the_exact_distribution() -> None:
    assert p_value(1600) > 1e-3


def test_accepting_drafts_by_their_ratio_without_a_residual_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Negative control: a child is taken with min(1, target / draft), else the target's sample."""
    rng = np.random.default_rng(0)

    def wrong(rows: Any, trees: PackedTrees, context_lens: NDArray[np.int64]) -> Chooser:
        own = chooser_for(rows, trees, context_lens)

        def choose(logits: torch.Tensor) -> torch.Tensor:
            choice = own(logits)
            values = logits.double() / LAW.temperature
            least = values.topk(LAW.top_k or 1).values[:, -1:]
            probs = values.masked_fill(values < least, -torch.inf).softmax(dim=-1)
            for child in reversed(range(len(trees.token))):  # the first of the siblings wins
                above, token = int(trees.parent[child]), int(trees.token[child])
                if above >= 0 and rng.random() < min(1.0, float(probs[above, token]) * SIBLINGS):
                    choice[above] = token
            return choice

        return choose

    monkeypatch.setattr(target_module, "chooser_for", wrong)
    assert p_value(1600) < 1e-6

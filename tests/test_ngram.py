from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from smartprof.drafters.evidence import (
    FURTHER,
    SEVERAL,
    SINGLE,
    EvidenceTable,
    bucket_of,
    default_priors,
)
from smartprof.drafters.ngram import RECENCY, NgramDrafter
from smartprof.trees.forest import Children, Forest
from tests.forests import path_tokens


def naive_following(history: list[int], context: list[int]) -> tuple[Counter[int], dict[int, int]]:
    """Counts and last positions of what followed `context` in `history`, by scanning it."""
    counts: Counter[int] = Counter()
    last: dict[int, int] = {}
    for end in range(len(context), len(history)):
        if history[end - len(context) : end] == context:
            counts[history[end]] += 1
            last[history[end]] = end
    return counts, last


def naive_children(history: list[int], path: list[int], width: int) -> list[tuple[int, float]]:
    """Tokens and conditionals of a node's children under the prior rates, by scanning."""
    context, found, left = history + path, [], 1.0
    known: set[int] = set()
    for matched in range(min(8, len(context)), 0, -1):
        counts, last = naive_following(history, context[-matched:])
        fresh = {x: counts[x] for x in counts if x not in known}
        if not fresh:
            continue
        kind = FURTHER if known else (SINGLE if len(counts) == 1 else SEVERAL)
        rate = default_priors()[bucket_of(kind, matched)]
        latest = max(last, key=last.__getitem__)
        weight = {x: n + (RECENCY if x == latest else 0) for x, n in fresh.items()}
        for token in sorted(fresh, key=lambda x: (-fresh[x], -last[x])):
            found.append((token, left * rate * weight[token] / sum(weight.values())))
        known |= set(fresh)
        left *= 1 - rate
    return found[:width]


def expand_roots(drafter: NgramDrafter, newest: list[int]) -> tuple[Forest, Children]:
    forest = Forest.roots(np.array(newest))
    return forest, drafter.expand(forest, forest.frontier)


@pytest.mark.parametrize("seed", range(60))
def test_children_are_what_a_scan_of_the_history_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, 9))
    alphabet = int(rng.integers(2, 5))
    evidence = EvidenceTable()
    evidence.freeze()
    drafter = NgramDrafter(width=width, least=0.0, evidence=evidence)
    history = rng.integers(0, alphabet, int(rng.integers(1, 40))).tolist()
    drafter.admit(0, history)
    for _ in range(3):
        forest, children = expand_roots(drafter, history[-1:])
        for depth in range(3):
            nodes = forest.frontier if depth else np.array([0])
            if depth:
                children = drafter.expand(forest, nodes)
            for node in nodes.tolist():
                mine = children.parent == node
                expected = naive_children(history, path_tokens(forest, node), width)
                assert children.token[mine].tolist() == [x for x, _ in expected]
                assert children.conditional[mine] == pytest.approx([p for _, p in expected])
            forest = forest.extend(nodes, children)
            if forest.size > 60:
                break
        news = rng.integers(0, alphabet, int(rng.integers(1, 6))).tolist()
        drafter.commit(0, news[:1])
        drafter.commit(0, news[1:])
        history += news


def test_siblings_are_distinct_and_sum_to_at_most_one_whatever_was_learned() -> None:
    rng = np.random.default_rng(7)
    checked = 0
    for _ in range(100):
        rates = rng.choice([0.0, 0.3, 1.0], 24)
        drafter = NgramDrafter(least=0.0, evidence=EvidenceTable(rates.tolist()))
        history = rng.integers(0, 3, 60).tolist()
        drafter.admit(0, history)
        _, children = expand_roots(drafter, history[-1:])
        Children.checked(children.parent, children.token, children.conditional)
        checked += len(children.token)
    assert checked > 200


def test_children_below_the_least_probability_are_left_out_and_the_others_unchanged() -> None:
    rng = np.random.default_rng(8)
    dropped = 0
    for _ in range(50):
        history = rng.integers(0, 12, 150).tolist()
        every, some = NgramDrafter(width=12, least=0.0), NgramDrafter(width=12, least=0.02)
        every.admit(0, history)
        some.admit(0, history)
        full = expand_roots(every, history[-1:])[1]
        part = expand_roots(some, history[-1:])[1]
        kept = full.conditional >= 0.02
        assert part.token.tolist() == full.token[kept].tolist()
        assert part.conditional == pytest.approx(full.conditional[kept])
        dropped += int((~kept).sum())
    assert dropped > 20


def test_text_without_repetition_proposes_nothing() -> None:
    drafter = NgramDrafter()
    drafter.admit(0, list(range(20)))
    assert expand_roots(drafter, [19])[1].token.size == 0


def test_each_row_knows_only_its_own_request_and_rows_can_move() -> None:
    drafter = NgramDrafter()
    drafter.admit(0, [1, 2, 3, 1, 2])
    drafter.admit(1, [1, 2, 9, 1, 2])
    _, children = expand_roots(drafter, [2, 2])
    assert children.parent.tolist() == [0, 1] and children.token.tolist() == [3, 9]
    drafter.release(0)
    drafter.move(1, 0)
    _, children = expand_roots(drafter, [2])
    assert children.parent.tolist() == [0] and children.token.tolist() == [9]
    drafter.admit(1, [5, 6, 5])
    _, children = expand_roots(drafter, [2, 5])
    assert children.token.tolist() == [9, 6]


def test_noted_tokens_are_taken_in_at_the_next_root_expansion() -> None:
    drafter = NgramDrafter()
    drafter.admit(0, [1, 2])
    drafter.commit(0, [3, 1])
    _, children = expand_roots(drafter, [1])
    assert children.token.tolist() == [2]


def test_nodes_that_somebody_else_grew_are_understood_too() -> None:
    drafter = NgramDrafter()
    drafter.admit(0, [4, 5, 6, 7, 1])
    forest = Forest.roots(np.array([1]))
    forest = forest.extend(np.array([0]), Children.checked([0], [4], [0.5]))
    forest = forest.extend(np.array([1]), Children.checked([1], [5], [0.5]))
    children = drafter.expand(forest, np.array([2]))
    assert children.token.tolist() == [6]


def round_of(drafter: NgramDrafter, history: list[int], following: list[int]) -> None:
    """Draft the root's children for a request, then let these tokens follow."""
    drafter.admit(0, history)
    expand_roots(drafter, history[-1:])
    drafter.commit(0, following)
    expand_roots(drafter, following[-1:])


def test_a_rate_converges_to_how_often_that_evidence_is_right() -> None:
    rng = np.random.default_rng(9)
    drafter = NgramDrafter()
    for _ in range(4000):  # a match of exactly two tokens with one continuation, right in 7 of 10
        round_of(drafter, [1, 2, 3, 8, 1, 2], [3 if rng.random() < 0.7 else 5])
    assert drafter.evidence.rates[bucket_of(SINGLE, 2)] == pytest.approx(0.7, abs=0.03)
    others = [x for x in range(24) if x != bucket_of(SINGLE, 2)]
    assert [drafter.evidence.rates[x] for x in others] == [default_priors()[x] for x in others]


def test_shares_of_a_match_with_several_continuations_do_not_bias_its_rate() -> None:
    rng = np.random.default_rng(10)
    drafter = NgramDrafter()
    for _ in range(6000):  # 3 followed twice, 4 once and latest: shares 2/3.5 and 1.5/3.5
        draw = rng.random()
        token = 5 if draw > 0.6 else (3 if draw < 0.6 * 2 / 3.5 else 4)
        round_of(drafter, [1, 3, 1, 3, 1, 4, 1], [token])
    assert drafter.evidence.rates[bucket_of(SEVERAL, 1)] == pytest.approx(0.6, abs=0.03)


def test_rates_of_shorter_matches_are_learned_given_that_longer_ones_failed() -> None:
    rng = np.random.default_rng(11)
    drafter = NgramDrafter()
    for _ in range(8000):  # the match of two says 3; after 2 alone there is also 4
        draw = rng.random()
        token = 3 if draw < 0.5 else (4 if draw < 0.7 else 5)
        round_of(drafter, [1, 2, 3, 2, 4, 1, 2], [token])
    assert drafter.evidence.rates[bucket_of(SINGLE, 2)] == pytest.approx(0.5, abs=0.03)
    assert drafter.evidence.rates[bucket_of(FURTHER, 1)] == pytest.approx(0.4, abs=0.03)


def test_tokens_judge_every_child_of_the_nodes_they_pass_and_none_elsewhere() -> None:
    drafter = NgramDrafter(least=0.0)
    drafter.admit(0, [1, 2, 3, 4, 9, 2, 5, 1])
    forest, children = expand_roots(drafter, [1])  # 2
    forest = forest.extend(np.array([0]), children)
    children = drafter.expand(forest, np.array([1]))  # after 1 2: 3; after 2 alone also 5
    assert children.token.tolist() == [3, 5]
    forest = forest.extend(np.array([1]), children)
    drafter.expand(forest, np.array([2, 3]))
    drafter.commit(0, [2])  # two plain rounds later the second layer is judged as well
    drafter.commit(0, [5])
    expand_roots(drafter, [5])
    changed = {x for x in range(24) if drafter.evidence.rates[x] != default_priors()[x]}
    # right: 2 after 1. wrong: 3 after 1 2. right: 5 after 2, given that 3 was wrong
    assert changed == {bucket_of(SINGLE, 1), bucket_of(SINGLE, 2), bucket_of(FURTHER, 1)}
    rates, priors = drafter.evidence.rates, default_priors()
    assert rates[bucket_of(SINGLE, 1)] == pytest.approx((8 * priors[bucket_of(SINGLE, 1)] + 1) / 9)
    assert rates[bucket_of(SINGLE, 2)] == pytest.approx(8 * priors[bucket_of(SINGLE, 2)] / 9)
    assert rates[bucket_of(FURTHER, 1)] > priors[bucket_of(FURTHER, 1)]


def test_a_request_that_moves_takes_its_unjudged_proposals_along() -> None:
    drafter = NgramDrafter()
    drafter.admit(0, [7, 8])
    drafter.admit(1, [1, 2, 1])
    expand_roots(drafter, [8, 1])
    drafter.commit(1, [2])
    drafter.release(0)
    drafter.move(1, 0)
    expand_roots(drafter, [2])
    assert drafter.evidence.rates[bucket_of(SINGLE, 1)] > default_priors()[bucket_of(SINGLE, 1)]


def test_evidence_can_be_frozen_and_reset() -> None:
    table = EvidenceTable()
    table.observe(3, 1.0, False)
    assert table.rates != default_priors()
    table.reset()
    assert table.rates == default_priors()
    table.freeze()
    table.observe(3, 1.0, False)
    assert table.rates == default_priors()


def test_a_rate_is_a_beta_posterior_mean_and_stays_inside_its_bounds() -> None:
    table = EvidenceTable([0.5] * 24, prior_weight=8.0)
    for _ in range(8):
        table.observe(0, 1.0, True)
    assert table.rates[0] == pytest.approx(12 / 16)
    for _ in range(100):
        table.observe(1, 0.01, True)  # hits far beyond what its shares allow
    assert table.rates[1] == 0.999


def test_a_table_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 24 prior rates, got 3"):
        EvidenceTable([0.1, 0.2, 0.3])

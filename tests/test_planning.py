"""Plans against enumeration, and their intervals against closed forms."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby, product

import numpy as np
import pytest
from scipy import stats

from smartprof.errors import DomainError, InputError, ProfileError
from smartprof.planning.acceptance import Acceptance
from smartprof.planning.choose import fastest, in_ranges, reluctant
from smartprof.planning.families.base import Bounds
from smartprof.planning.families.chain import Chain
from smartprof.planning.families.table import find_family
from smartprof.planning.families.tree import Tree
from smartprof.planning.inputs import measured_batches, measured_contexts, open_costs
from smartprof.planning.plan import Rule, make_plan
from smartprof.planning.sources.table import read_acceptance
from smartprof.profile.cost import CostModel
from smartprof.profile.schema import Profile
from tests.profiles import make_profile, make_surface

BATCHES, CONTEXTS = (1, 2, 4, 8), (64.0, 256.0)
Path = tuple[int, ...]  # a node by the ranks on its way from the root


def ragged(seed: int) -> Profile:
    """Seconds with stairs and dips over batch, size and context: nothing is monotone."""
    rng = np.random.default_rng(seed)
    verify = rng.uniform(0.5, 1.5, (9, 129, 3))

    def seconds(batch: int, size: int, context: int) -> float:
        place = (64, 256, 1024).index(context)
        return 0.02 * (1 + 0.03 * size) * float(verify[batch, size, place])

    def step(batch: int, size: int, context: int) -> float:
        return 1e-3 + 5e-4 * size

    def catchup(batch: int, size: int, context: int) -> float:
        return 2e-3 + 1e-3 * size

    return make_profile(seconds, draft_step=step, draft_catchup=catchup)


def naive_tokens(nodes: list[Path], rates: list[list[float]]) -> float:
    return 1 + sum(path_prob(x, rates) for x in nodes)


def path_prob(path: Path, rates: list[list[float]]) -> float:
    found = 1.0
    for depth, rank in enumerate(path):
        row = rates[min(depth, len(rates) - 1)]
        found *= row[rank] if rank < len(row) else 0.0
    return found


def naive_beam(rates: list[list[float]], depth: int, top_k: int, nodes: int) -> list[Path]:
    """EAGLE-2's two phases on explicit paths."""
    layer = [(x,) for x in range(top_k)]
    drafted = list(layer)
    for _ in range(depth - 1):
        best = sorted(layer, key=lambda x: -path_prob(x, rates))[:top_k]
        layer = [(*x, y) for x in best for y in range(top_k)]
        drafted += layer
    return sorted(drafted, key=lambda x: (-path_prob(x, rates), len(x)))[:nodes]


def naive_seconds(
    costs: CostModel, batch: int, context: float, nodes: int, rows: list[int], tokens: float
) -> float:
    """Query by query; the catch-up linear between whole tokens per request."""

    def of(quantity: str, size: int) -> float:
        return costs.predict(quantity, batch, size, context).seconds

    if not nodes:
        return of("plain_decode", batch)
    low = int(tokens)
    first, second = (of("draft_catchup", batch * x) for x in (low, low + 1))
    verify = of("verify", batch * (1 + nodes)) + of("round_overhead", batch * (1 + nodes))
    steps = sum(of("draft_step", batch * x) for x in rows)
    return first + (tokens - low) * (second - first) + steps + verify


def chain_rate(
    costs: CostModel, batch: int, context: float, rates: list[list[float]], length: int
) -> float:
    tokens = naive_tokens([(0,) * x for x in range(1, length + 1)], rates)
    rows = [1] * (length - 1)
    return tokens / naive_seconds(costs, batch, context, length, rows, tokens)


@pytest.mark.parametrize("seed", range(6))
def test_each_batch_and_context_gets_the_best_of_all_chains(seed: int) -> None:
    rates = [[0.8], [0.7], [0.5]]
    costs = CostModel(ragged(seed), "ngram")
    plan = make_plan(costs, read_acceptance("0.8/0.7/0.5"), Chain(), BATCHES, CONTEXTS)
    lengths = []
    for cell in plan.cells:
        found = {x: chain_rate(costs, cell.batch, cell.context, rates, x) for x in range(9)}
        ranked = sorted(found, key=lambda x: -found[x])
        assert cell.chosen.setting.nodes == ranked[0]
        assert cell.runner_up.setting.nodes == ranked[1]
        assert cell.chosen.speedup == pytest.approx(found[ranked[0]] / found[0])
        assert cell.chosen.tokens / cell.chosen.parts.total == pytest.approx(found[ranked[0]])
        lengths.append(ranked[0])
    assert len(set(lengths)) > 1  # the profile is one on which there is something to choose


@pytest.mark.parametrize("seed", range(3))
def test_each_batch_and_context_gets_the_best_of_all_trees(seed: int) -> None:
    """Of every depth, top-k and size, those that the family leaves out as redundant included."""
    counts = [[600, 200, 100], [300, 150]] if seed else [[500, 100, 200], [100, 250]]  # any order
    tried = [1000, 600 if seed else 500]
    rates = [[x / y for x in ranks] for ranks, y in zip(counts, tried, strict=True)]
    costs = CostModel(ragged(seed), "ngram")
    acceptance = replace(Acceptance.counted(counts, tried, "a test"), deepest=None)
    bounds = Bounds(depth=3, nodes=12)
    plan = make_plan(costs, acceptance, Tree(), (1, 4), (64.0,), bounds=bounds)
    trees = 0
    for cell in plan.cells:
        best = 1 / naive_seconds(costs, cell.batch, 64.0, 0, [], 1.0)
        for depth, top_k, nodes in product(range(1, 4), range(1, 4), range(1, 13)):
            paths = naive_beam(rates, depth, top_k, nodes)
            if len(paths) < nodes:
                continue
            tokens, rows = naive_tokens(paths, rates), [top_k] * (depth - 1)
            seconds = naive_seconds(costs, cell.batch, 64.0, nodes, rows, tokens)
            best = max(best, tokens / seconds)
        assert cell.chosen.tokens / cell.chosen.parts.total == pytest.approx(best)
        trees += cell.chosen.setting.top_k > 1
    assert trees or seed  # at least the first profile has one that pays


def test_a_tree_of_one_rank_is_a_chain() -> None:
    acceptance = read_acceptance("0.8/0.6")
    trees, chains = (find_family(x).candidates(acceptance, Bounds()) for x in ("tree", "chain"))
    assert [x.setting for x in trees] == [x.setting for x in chains]
    assert [x.expected for x in trees] == pytest.approx([x.expected for x in chains])


def test_nothing_makes_lengths_fall_with_the_batch() -> None:
    """Batch 2 is made dear to verify, batch 4 and 8 are not."""

    def seconds(batch: int, size: int, context: int) -> float:
        return 0.02 * (size if batch == 2 else 1 + 0.01 * size)

    plan = make_plan(
        CostModel(make_profile(seconds), "ngram"), read_acceptance("0.5"), Chain(), BATCHES, [64.0]
    )
    assert [x.pays for x in plan.cells] == [True, False, True, True]


def naive_ranges(rates: np.ndarray, ranges: int) -> float:
    """The best sum of logarithms over every choice of at most so many runs."""
    batches, settings = rates.shape
    best = -np.inf
    for choice in product(range(settings), repeat=batches):
        if len(list(groupby(choice))) <= ranges:
            best = max(best, sum(np.log(rates[x, y]) for x, y in enumerate(choice)))
    return best


@pytest.mark.parametrize("seed", range(30))
def test_few_settings_are_the_best_of_all_choices_of_so_few_ranges(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rates = rng.uniform(0.5, 2.0, (int(rng.integers(1, 7)), 3))
    rates[rng.random(rates.shape) < 0.15] = 1e-300  # as good as impossible
    values = []
    for ranges in range(1, len(rates) + 1):
        choice = in_ranges(rates, ranges)
        assert len(list(groupby(choice.tolist()))) <= ranges
        values.append(float(np.log(rates[np.arange(len(rates)), choice]).sum()))
        assert values[-1] == pytest.approx(naive_ranges(rates, ranges))
    assert values == sorted(values)
    assert (in_ranges(rates, len(rates)) == fastest(rates)).all()


def test_a_setting_without_a_price_is_not_chosen() -> None:
    rates = np.array([[1.0, 9.0], [1.0, -np.inf]])
    assert in_ranges(rates, 1).tolist() == [0, 0]
    assert reluctant(rates, 5.0).tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(20))
def test_a_setting_is_left_only_for_the_least_gain(seed: int) -> None:
    """Against the rule written out: keep the last one unless the best gains enough."""
    rng = np.random.default_rng(seed)
    rates = rng.uniform(0.9, 1.1, (8, 3))
    for gain in (0.0, 0.05, 0.1, 1.0):
        expected: list[int] = []
        for row in rates:
            best = max(range(3), key=lambda x: row[x])
            stays = bool(expected) and row[best] < row[expected[-1]] * (1 + gain)
            expected.append(expected[-1] if stays else best)
        assert reluctant(rates, gain).tolist() == expected
    assert len(set(reluctant(rates, 1.0).tolist())) == 1
    assert (reluctant(rates, 0.0) == fastest(rates)).all()


def test_the_rules_are_applied_along_the_batches_of_each_context() -> None:
    costs = CostModel(ragged(0), "ngram")
    free = make_plan(costs, read_acceptance("0.7"), Chain(), BATCHES, CONTEXTS)
    few = make_plan(costs, read_acceptance("0.7"), Chain(), BATCHES, CONTEXTS, rule=Rule(ranges=1))
    kept = make_plan(
        costs, read_acceptance("0.7"), Chain(), BATCHES, CONTEXTS, rule=Rule(min_gain=9.0)
    )
    assert len({x.chosen.setting for x in free.at(64.0)}) > 1
    for context in CONTEXTS:
        assert len({x.chosen.setting for x in few.at(context)}) == 1
        assert {x.chosen.setting for x in kept.at(context)} == {free.at(context)[0].chosen.setting}
        assert [x.fastest.setting for x in few.at(context)] == [
            x.chosen.setting for x in free.at(context)
        ]


def counted_chain(hits: int, tries: int) -> Acceptance:
    return Acceptance.counted([(hits,)], (tries,), "a test")


def one_cell(profile: Profile, acceptance: Acceptance) -> tuple[float, float, float]:
    plan = make_plan(CostModel(profile, "ngram"), acceptance, Chain(), [4], [64.0])
    cell = plan.cells[0]
    return cell.low, cell.chosen.speedup, cell.high


def test_without_noise_the_interval_is_that_of_the_counts() -> None:
    """A chain of one token commits 1 + p, so its speedup follows a Beta distribution."""
    low, speedup, high = one_cell(make_profile(), counted_chain(60, 100))
    quantiles = stats.beta(60.5, 40.5).ppf([0.025, 0.975])
    assert (low, high) == pytest.approx(tuple(speedup * (1 + quantiles) / 1.6), rel=0.02)
    narrow = one_cell(make_profile(), counted_chain(6000, 10_000))
    assert narrow[2] - narrow[0] < 0.2 * (high - low)


def test_without_counts_the_interval_is_that_of_the_measured_seconds() -> None:
    """Verify and plain pass dominate, so the relative width is nearly that of their quotient."""
    low, speedup, high = one_cell(make_profile(half_width=0.04), read_acceptance("0.6"))
    assert np.log(high / low) / 2 == pytest.approx(0.04 * 2**0.5, rel=0.15)
    assert low < speedup < high
    exact = one_cell(make_profile(), read_acceptance("0.6"))
    assert exact[0] == pytest.approx(exact[1]) == pytest.approx(exact[2])


def test_a_place_is_as_certain_as_the_least_certain_of_its_seconds() -> None:
    costs = CostModel(make_profile(), "ngram")
    plan = make_plan(
        costs, read_acceptance("0.9"), Chain(), [1, 3, 16], [64.0, 300.0], bounds=Bounds(depth=1)
    )
    tiers = {(x.batch, x.context): x.tier for x in plan.cells}
    assert tiers[1, 64.0] == "exact"
    assert tiers[1, 300.0] == tiers[3, 64.0] == "interpolated"
    assert tiers[16, 64.0] == "extrapolated"


def test_a_catch_up_measured_at_one_size_is_held_in_price_tier_and_interval() -> None:
    profile = make_profile(lambda batch, size, context: 0.02, half_width=0.04)
    costs = profile.drafters["ngram"]
    short = make_surface("draft_catchup", lambda *_: 1e-4, sizes=(1,), half_width=0.04)
    drafters = {"ngram": costs.model_copy(update={"draft_catchup": short})}
    model = CostModel(profile.model_copy(update={"drafters": drafters}), "ngram")
    (cell,) = make_plan(model, read_acceptance("0.95"), Chain(), [8], [64.0]).cells
    assert 8 * cell.chosen.tokens > model.most_catchup == 32
    assert cell.tier == "extrapolated" and cell.low < cell.chosen.speedup < cell.high


def test_no_setting_leaves_the_longest_measured_pass() -> None:
    flat = make_profile(lambda batch, size, context: 0.02)
    plan = make_plan(CostModel(flat, "ngram"), read_acceptance("0.9"), Chain(), [8, 32], [64.0])
    assert [x.chosen.setting.nodes for x in plan.cells] == [8, 128 // 32 - 1]


def test_drafting_can_be_kept_going_where_plain_decoding_is_better() -> None:
    dear = CostModel(make_profile(lambda batch, size, context: 0.01 * size), "ngram")
    free = make_plan(dear, read_acceptance("0.3"), Chain(), [1, 8], [64.0])
    kept = make_plan(dear, read_acceptance("0.3"), Chain(), [1, 8], [64.0], bounds=Bounds(least=1))
    assert [x.chosen.setting.nodes for x in free.cells] == [0, 0]
    assert [x.chosen.setting.nodes for x in kept.cells] == [1, 1]
    assert all(x.fastest.setting.nodes == 0 and x.chosen.speedup < 1 for x in kept.cells)


@pytest.mark.parametrize(
    ("batches", "contexts", "error", "complaint"),
    [
        ([33], [64.0], DomainError, "plain_decode: expected batch within"),
        ([65], [64.0], InputError, "expected a batch of at most 64"),
        ([1], [5000.0], DomainError, "expected context within"),
    ],
)
def test_places_outside_the_domain_are_refused(
    batches: list[int], contexts: list[float], error: type[Exception], complaint: str
) -> None:
    costs = CostModel(make_profile(), "ngram")
    with pytest.raises(error, match=complaint):
        make_plan(costs, read_acceptance("0.5"), Chain(), batches, contexts)


def test_rules_that_contradict_each_other_are_refused() -> None:
    for wrong in ({"min_gain": -0.1}, {"min_gain": np.nan}, {"ranges": 0}):
        with pytest.raises(InputError, match="expected --"):
            Rule(**wrong)
    with pytest.raises(InputError, match="got both"):
        Rule(min_gain=0.1, ranges=2)
    with pytest.raises(InputError, match="at most 8, got 9"):
        make_plan(
            CostModel(make_profile(), "ngram"),
            read_acceptance("0.5"),
            Chain(),
            [1],
            [64.0],
            bounds=Bounds(least=9),
        )


def test_the_drafter_is_named_unless_there_is_one_only() -> None:
    assert open_costs(make_profile(), None).drafter == "ngram"
    with pytest.raises(InputError, match="one of lm, ngram"):
        open_costs(make_profile(drafters=("ngram", "lm")), None)
    with pytest.raises(ProfileError, match="draft_step and draft_catchup"):
        open_costs(make_profile(drafters=()), None)
    with pytest.raises(ProfileError, match="expected costs of drafter 'lm'"):
        open_costs(make_profile(), "lm")


def test_by_default_a_plan_covers_what_was_measured() -> None:
    assert measured_batches(make_profile()) == (1, 2, 4, 8)
    assert measured_contexts(make_profile()) == (64.0, 256.0, 1024.0)

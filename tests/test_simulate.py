"""Simulated studies: queues, ceilings, refusals, and what the reports are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from smartprof.errors import DomainError, InputError
from smartprof.policies.base import Offer
from smartprof.policies.table import make_policy
from smartprof.profile.cost import CostModel
from smartprof.report.simulated import SimulatedRun, summarise_simulated
from smartprof.simulate import run as simulate_run
from smartprof.simulate.oracle import Oracle
from smartprof.simulate.run import SimulatedLane, Study, drawn, simulate
from smartprof.simulate.synthetic import Law, SyntheticWorld
from smartprof.trees.forest import Forest
from tests.costs import TableCosts
from tests.drafting import make_round
from tests.l40s import l40s_profile
from tests.profiles import bent, make_profile
from tests.tiny_decoding import POLICIES

SMALL_GRID = ("plain", "chain:k=2", "chain:k=5", "eagle2:m=8:depth=2", "eagle2:m=60:depth=4")


def world(rate: float = 0.6, count: int = 6, seed: int = 0, new: int = 40) -> SyntheticWorld:
    return SyntheticWorld(Law(rate), "eagle3", seed, count=count, new_tokens=new)


def costs() -> CostModel:
    return CostModel(l40s_profile(), "eagle3")


def lanes_of(
    *policies: str,
    batches: tuple[int, ...] = (4,),
    contexts: tuple[int | None, ...] = (None,),
    seed: int = 0,
    among: SyntheticWorld | None = None,
) -> list[SimulatedLane]:
    """Under the L40S-like profile."""
    study = Study(policies, batches, contexts, seed)
    return list(simulate(among or world(), costs(), study))


@pytest.fixture
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_run, "STATIC_GRID", SMALL_GRID)


@pytest.mark.parametrize(
    "seed, rate, batch", [(0, 0.3, 1), (1, 0.6, 4), (2, 0.85, 32), (3, 0.6, 16)]
)
def test_the_oracle_is_never_below_any_other_policy(seed: int, rate: float, batch: int) -> None:
    found = lanes_of(*POLICIES, "oracle", batches=(batch,), among=world(rate, 8, seed))
    rates = {x.result.policy: x.rate for x in found}
    assert max(rates, key=lambda x: rates[x]) == "oracle"


def test_the_oracle_verifies_nothing_that_is_wrong() -> None:
    lane = lanes_of("oracle")[-1].result
    for record in lane.records:
        drafted = record.tree_size - 1
        np.testing.assert_array_equal(record.accepted, drafted)


def test_the_oracle_decodes_plainly_where_nothing_right_is_proposed() -> None:
    """And where drafting takes longer than what it brings."""
    dear = make_profile(bent, draft_catchup=lambda *_: 1.0, drafters=("eagle3",))
    for found, prices in ((world(1e-6), costs()), (world(), CostModel(dear, "eagle3"))):
        plain, oracle = simulate(found, prices, Study(["oracle"], [2]))
        assert oracle.rate == plain.rate
        assert all(x.draft_steps == 0 for x in oracle.result.records)


@pytest.mark.parametrize("batch", [1, 8, 32])
def test_oracle_static_is_the_best_setting_of_its_grid(small_grid: None, batch: int) -> None:
    found = lanes_of(*SMALL_GRID, "oracle-static", batches=(batch,))
    rates = {x.result.policy: x.rate for x in found}
    best = found[-1]
    assert best.result.policy == "oracle-static"
    assert best.rate == max(rates[x] for x in SMALL_GRID) == rates[best.setting or ""]


def test_oracle_static_leaves_out_what_the_profile_cannot_price(small_grid: None) -> None:
    narrow = make_profile(bent, drafters=("eagle3",), sizes=(1, 2, 4, 8, 16))
    prices = CostModel(narrow, "eagle3")
    *_, best = simulate(world(), prices, Study(["oracle-static"], [8]))
    assert best.setting in ("plain", "chain:k=2", "chain:k=5")
    with pytest.raises(DomainError):  # asked for by name it is refused
        list(simulate(world(), prices, Study(["eagle2:m=60:depth=4"], [8])))


@pytest.mark.parametrize("name", ["oracle", "oracle-static"])
def test_ceilings_are_refused_where_tokens_are_real(name: str) -> None:
    with pytest.raises(InputError, match="a ceiling that only `smartprof simulate` has"):
        make_policy(name)


def test_an_ablation_that_a_trace_cannot_show_is_refused() -> None:
    with pytest.raises(InputError, match="compare it in `smartprof decode`"):
        lanes_of("smart-without:part=calibration")


def test_nothing_runs_if_anything_cannot_be_priced() -> None:
    for study in (Study(["smart"], [1, 4096]), Study(["smart"], [1], [512, 10**6])):
        with pytest.raises(DomainError):
            next(simulate(world(), costs(), study))
    with pytest.raises(InputError, match="expected a policy of"):
        next(simulate(world(), costs(), Study(["plain", "best"], [1])))


def test_a_batch_or_context_asked_for_twice_is_simulated_once() -> None:
    lanes = list(simulate(world(), costs(), Study([], [2, 2], [512, 512])))
    assert [(x.result.batch, x.context) for x in lanes] == [(2, 512)]


def test_outcomes_and_seconds_repeat_with_the_seed() -> None:
    first, again, other = (lanes_of("smart", seed=x)[-1] for x in (3, 3, 4))
    assert first.rate == again.rate != other.rate


def test_the_queue_holds_every_request_and_three_batches() -> None:
    requests = world().requests
    for batch, count in ((1, 6), (2, 6), (8, 24)):
        queue = drawn(requests, batch, 0)
        assert [x for x, _ in queue] == list(range(count))
        times = np.bincount([x.number for _, x in queue])  # type: ignore[attr-defined]
        assert times.max() - times.min() <= 1
    assert list(drawn(requests, 8, 0)) != list(drawn(requests, 8, 1))


def test_a_stated_context_is_charged_for_and_nothing_else_changes() -> None:
    """Fixed trees are the same whatever is charged, and plain rounds cost what the profile says."""
    own, short, long = (lanes_of("chain", contexts=(x,)) for x in (None, 128, 2048))
    for lane in (own, long):
        for x, y in zip(short[1].result.records, lane[1].result.records, strict=True):
            np.testing.assert_array_equal(x.committed, y.committed)
    for context, found in ((128, short), (2048, long)):
        seconds = {x.modelled_seconds for x in found[0].result.records}
        assert seconds == {costs().plain_decode(4, context)}


def test_reports_add_up() -> None:
    lanes = lanes_of("chain:k=3", "smart", batches=(1, 4), contexts=(128, 512))
    runs = summarise_simulated(lanes)
    assert len(runs) == len({(x.policy, x.batch, x.context) for x in runs}) == 3 * 2 * 2
    by_place = {(x.policy, x.batch, x.context): x for x in runs}
    for lane, found in zip(lanes, runs, strict=True):
        check_line(lane, found, by_place["plain", found.batch, found.context])


def check_line(lane: SimulatedLane, found: SimulatedRun, plain: SimulatedRun) -> None:
    records = lane.result.records
    assert found.tokens_per_second == pytest.approx(lane.rate)
    assert found.speedup == pytest.approx(lane.rate / plain.tokens_per_second)
    assert found.speedup_low <= found.speedup * (1 + 1e-9)
    assert found.speedup_high >= found.speedup * (1 - 1e-9)
    draft = sum(x.modelled_draft_seconds for x in records)
    assert found.share.draft == pytest.approx(draft / found.seconds)
    assert found.missing == 0.0
    assert (found.policy, found.context) == (lane.result.policy, lane.context)


def test_every_full_round_costs_its_parts() -> None:
    """Draft, verify and overhead, as the profile prices them one by one."""
    prices = costs()
    for record in lanes_of("eagle2:m=6:depth=3:k=2")[-1].result.records:
        batch, context = 4, float(record.context_lens.mean())
        verify = prices.verify(batch, record.verify_tokens, context)
        rest = record.modelled_seconds - record.modelled_draft_seconds
        assert record.modelled_verify_seconds == verify
        assert rest - verify == pytest.approx(prices.round_overhead(batch, record.verify_tokens))


@dataclass(frozen=True)
class Known:
    """Foresight made up for a test: so many right tokens below each root."""

    lengths: np.ndarray

    def right_below(self, source: str) -> np.ndarray:
        return self.lengths

    def on_path(self, forest: Forest) -> np.ndarray:
        return np.ones(forest.size, np.bool_)


def best_plan(lengths: np.ndarray, prices: TableCosts, theta: float) -> float:
    """Tokens net of seconds of the best number of layers and of nodes, one by one."""
    batch = len(lengths)
    values = [-theta * prices.plain_decode(batch, 100.0)]
    table = list(prices.verify_table)
    for layers in range(1, int(lengths.max(initial=0)) + 1):
        draft = prices.catchup_seconds
        for layer in range(1, layers):
            draft += float(prices.draft_step(batch, int((lengths > layer).sum()), 100.0))
        for nodes in range(int(np.minimum(lengths, layers).sum()) + 1):
            seconds = draft + min(table[batch + nodes - 1 :])  # padded up where that is cheaper
            values.append(nodes - theta * seconds)
    return max(values)


@pytest.mark.parametrize("seed", range(100))
def test_the_oracle_s_plan_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch = int(rng.integers(1, 4))
    lengths = rng.integers(0, 6, batch)
    verify = rng.uniform(0.5, 1.5, 40) + rng.choice([0.0, 0.1]) * np.arange(40)
    prices = TableCosts(verify.tolist(), rng.uniform(0.01, 0.4, 8).tolist(), rng.uniform(0, 0.4))
    forest = Forest.roots(np.arange(batch))
    plain_seconds = prices.plain_decode(batch, 100.0)
    round = make_round(forest, np.full(batch, 9), prices, plain_seconds)
    oracle = Oracle(Known(lengths))
    oracle.choose(round, [Offer("d", prices, 0)], lambda: 0.0)
    best = best_plan(lengths, prices, batch / plain_seconds)
    assert oracle._plan.value == pytest.approx(best)

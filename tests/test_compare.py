"""Two profiles side by side: verdicts, regions, keys, decisions and what they cost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from smartprof.errors import ProfileError
from smartprof.planning.decisions import CURVES, compare_decisions
from smartprof.planning.families.base import Bounds
from smartprof.planning.families.table import find_family
from smartprof.planning.prices import Place, round_parts
from smartprof.planning.sources.table import read_acceptance
from smartprof.profile.compare import common_drafters, compare_seconds
from smartprof.profile.cost import CostModel
from smartprof.profile.files import save_profile
from smartprof.profile.keys import compare_keys, key_differences
from smartprof.profile.schema import Profile
from smartprof.profile.verdicts import judge
from tests.profiles import bent, make_key, make_profile
from tests.test_cli import refused, smartprof

RATES = [read_acceptance(x) for x in CURVES]


def scaled(factor: float, half_width: float = 0.01) -> Profile:
    """Every second of the usual profile times a factor."""
    return make_profile(
        lambda *x: factor * bent(*x),
        overhead=lambda *x: factor * 1e-3,
        draft_step=lambda *x: factor * 1e-4,
        draft_catchup=lambda *x: factor * 1e-4,
        half_width=half_width,
    )


@pytest.mark.parametrize(
    ("ratio", "one", "other", "verdict"),
    [
        (1.00, 0.01, 0.01, "SAME"),
        (1.01, 0.02, 0.02, "SAME"),
        (1.004, 0.0, 0.0, "SAME"),  # too small to matter, however well measured
        (1.03, 0.02, 0.02, "AMBIGUOUS"),  # the intervals overlap, the values do not agree
        (1.05, 0.02, 0.02, "SLOW"),
        (0.95, 0.02, 0.02, "FAST"),
        (1.02, 0.0, 0.0, "SLOW"),
        (1.00, 0.2, 0.2, "AMBIGUOUS"),  # noise alone makes nothing the same
        (1.00, 0.01, 0.2, "AMBIGUOUS"),
        (2.00, 1.0, 1.0, "AMBIGUOUS"),
    ],
)
def test_a_verdict_needs_intervals_apart_or_values_within_narrow_ones(
    ratio: float, one: float, other: float, verdict: str
) -> None:
    assert judge(ratio, one, other) == verdict


def test_a_verdict_turns_round_with_the_order() -> None:
    opposite = {"FAST": "SLOW", "SLOW": "FAST", "SAME": "SAME", "AMBIGUOUS": "AMBIGUOUS"}
    for ratio in np.linspace(0.9, 1.1, 41).tolist():
        for one, other in ((0.01, 0.01), (0.0, 0.04), (0.03, 0.01)):
            assert judge(1 / ratio, other, one) == opposite[judge(ratio, one, other)]


def test_a_profile_is_the_same_as_itself_and_changes_no_decision() -> None:
    profile = scaled(1.0)
    regions = compare_seconds(profile, profile, ["ngram"])
    assert {x.verdict for x in regions} == {"SAME"}
    assert {x.quantity for x in regions if x.name == "all"} == {
        *("verify", "plain_decode", "round_overhead", "draft_step", "draft_catchup")
    }
    costs = CostModel(profile, "ngram")
    decisions = compare_decisions(costs, costs, RATES)
    assert len(decisions) == len(RATES) * 4 * 3  # batches 1, 2, 4, 8, three contexts
    assert not any(x.changes or x.cost_percent for x in decisions)
    assert key_differences(profile.key, profile.key) == []


def test_a_device_that_is_slower_all_over_is_slow_everywhere_and_decides_the_same() -> None:
    one, other = scaled(1.0), scaled(1.1)
    regions = compare_seconds(one, other, ["ngram"])
    assert {x.verdict for x in regions} == {"SLOW"}
    assert [x.ratio for x in regions] == pytest.approx([1.1] * len(regions))
    assert [x.apart for x in regions] == pytest.approx([0.1 / 1.05] * len(regions))
    decisions = compare_decisions(CostModel(one, "ngram"), CostModel(other, "ngram"), RATES)
    assert not any(x.changes for x in decisions)


def test_a_region_that_differs_is_found_and_the_others_are_not_blamed() -> None:
    one = scaled(1.0)
    other = make_profile(lambda b, s, c: bent(b, s, c) * (1.3 if s >= 64 else 1.0), half_width=0.01)
    found = {x.name: x for x in compare_seconds(one, other, []) if x.quantity == "verify"}
    assert found["large (from 64)"].verdict == "SLOW"
    assert found["large (from 64)"].ratio == pytest.approx(1.3)
    assert found["small (to 8)"].verdict == found["medium (9-63)"].verdict == "SAME"


def test_what_differs_either_way_is_apart_by_that() -> None:
    """By 4 % at most sizes and 30 % at the largest: in the 95th percentile, not in the median."""
    factors = {1: 1.04, 2: 1 / 1.04, 4: 1.04, 8: 1 / 1.04, 16: 1.04, 32: 1 / 1.04, 64: 1.3}
    one = make_profile(sizes=tuple(factors), half_width=0.01)
    other = make_profile(
        lambda b, s, c: bent(b, s, c) * factors[s], sizes=tuple(factors), half_width=0.01
    )
    regions = compare_seconds(one, other, [])
    [found] = [x for x in regions if (x.quantity, x.name) == ("verify", "all")]
    assert found.apart == pytest.approx(0.04 / 1.02)
    assert found.apart_p95 == pytest.approx(0.3 / 1.15)


def test_only_points_that_both_cover_are_compared() -> None:
    one = make_profile(batches=(1, 2), contexts=(64, 256), sizes=(1, 2, 4, 8, 16))
    other = make_profile(batches=(2, 4), contexts=(256, 1024), sizes=(1, 2, 4, 8, 64))
    regions = {x.name: x for x in compare_seconds(one, other, []) if x.quantity == "verify"}
    assert regions["all"].points == 4  # batch 2, context 256; 2, 4, 8 and 16 tokens
    assert not any(x.startswith("long context") for x in regions)


def test_the_cost_of_a_foreign_choice_is_what_pricing_both_by_hand_gives() -> None:
    one = make_profile()
    other = make_profile(lambda b, s, c: bent(b, s, c) + 0.004 * s, half_width=0.01)
    models = CostModel(one, "ngram"), CostModel(other, "ngram")
    decisions = compare_decisions(*models, RATES[:1])
    assert any(x.changes for x in decisions)
    candidates = find_family("tree").candidates(RATES[0], Bounds())
    for decision in decisions:
        place = Place(decision.batch, decision.context)
        rates = [
            {
                x.setting: x.expected / round_parts(y, x, place).total
                for x in candidates
                if place.batch * (1 + x.setting.nodes) <= 128
            }
            for y in models
        ]
        assert rates[0][decision.by_one] == pytest.approx(max(rates[0].values()))
        best = max(rates[1].values())
        cost = 100 * (1 - rates[1][decision.by_one] / best)
        assert decision.cost_percent == pytest.approx(cost, abs=1e-9)
        assert decision.cost_percent >= 0


def test_differences_of_keys_are_those_that_refuse_or_label_a_profile() -> None:
    key = make_key()
    other = key.model_copy(
        update={
            "device": key.device.model_copy(update={"name": "Other CPU", "driver": "1"}),
            "execution": "cuda_graph",
        }
    )
    found = {x.field: x.consequence for x in key_differences(key, other)}
    assert found == {
        "device.name": "modelled",
        "device.driver": "warned",
        "execution": "follows",  # of another device it is the profile's own affair
    }
    assert compare_keys(key, other).modelled == [
        "device name: the profile has 'Test CPU', here is 'Other CPU'"
    ]


def test_a_drafter_that_only_one_prices_is_named_and_not_compared(tmp_path: Path) -> None:
    one, other = make_profile(drafters=("lm", "ngram")), make_profile(drafters=("ngram",))
    assert common_drafters(one, other) == ("ngram",)
    with pytest.raises(ProfileError, match="one that both profiles price"):
        common_drafters(one, other, "lm")
    save_profile(one, tmp_path / "a.json")
    save_profile(other, tmp_path / "b.json")
    result = smartprof("compare", tmp_path / "a.json", tmp_path / "b.json")
    assert result.code == 0, result
    assert "not compared, in one of them only: lm" in result.out
    line = refused(tmp_path, "compare", tmp_path / "a.json", tmp_path / "b.json", "--drafter", "lm")
    assert "one that both profiles price (ngram)" in line


def test_profiles_that_share_no_point_say_so(tmp_path: Path) -> None:
    save_profile(make_profile(contexts=(64,), batches=(1,), sizes=(1, 8)), tmp_path / "a.json")
    far = make_profile(contexts=(4096,), batches=(32,), sizes=(32, 256), drafters=())
    save_profile(far, tmp_path / "b.json")
    result = smartprof("compare", tmp_path / "a.json", tmp_path / "b.json")
    assert result.code == 0, result
    assert "seconds: nothing compared" in result.out
    assert "decisions: none compared" in result.out


def test_compare_prints_and_writes_what_it_found(tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    given = ("compare", "xeon-2t-smollm2.json", "epyc-2t-smollm2.json", "--json", report)
    result = smartprof(*given)
    assert result.code == 0, result
    value = json.loads(report.read_text())
    assert value["a"]["device"] in result.out
    assert value["b"]["device"] in result.out
    assert {x["verdict"] for x in value["regions"]} <= {"SAME", "FAST", "SLOW", "AMBIGUOUS"}
    assert any(x["field"] == "device.name" for x in value["differences"])
    changed = [x for x in value["decisions"] if x["by_a"] != x["by_b"]]
    assert f"{len(changed)} of {len(value['decisions'])} change" in result.out
    assert "exists" in refused(tmp_path, *given)
    assert "expected a profile" in refused(tmp_path, "compare", "xeon-2t-smollm2.json", "no.json")


def test_seconds_that_were_not_timed_have_no_interval(tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    assert smartprof("compare", "a100.json", "h200.json", "--json", report).code == 0
    value = json.loads(report.read_text())
    assert value["regions"]
    assert {(x["half_width_a"], x["half_width_b"]) for x in value["regions"]} == {(None, None)}

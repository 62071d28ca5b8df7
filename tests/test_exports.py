"""Every engine's file read back by its look-up rule, restated here independently."""

from __future__ import annotations

import json
import shlex
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from smartprof.errors import InputError
from smartprof.exports.base import Export
from smartprof.exports.sglang_sps import fit_sum, step_seconds
from smartprof.exports.table import EXPORTERS, find_exporter
from smartprof.planning.families.base import Bounds
from smartprof.planning.families.chain import Chain
from smartprof.planning.families.table import find_family
from smartprof.planning.plan import Rule, make_plan
from smartprof.planning.sources.table import read_acceptance
from smartprof.profile.cost import CostModel
from tests.profiles import make_profile
from tests.serving import ALL, LAST, planned, request, server_profile

TIERED = ("vllm", "sglang", "trtllm")


def vllm_rule(text: str) -> Callable[[int], int]:
    """Inclusive ranges; gaps and the tail keep the K before; K is cut to the largest allowed."""
    value = json.loads(text)
    most, ranges = value["num_speculative_tokens"], value["num_speculative_tokens_per_batch_size"]
    assert ranges[0][0] == 1
    assert all(before[1] < after[0] for before, after in pairwise(ranges))

    def look_up(batch: int) -> int:
        return min(most, [k for first, _, k in ranges if first <= batch][-1])

    return look_up


def sglang_rule(text: str, graphs: Sequence[int]) -> Callable[[int], int]:
    """Pad to the next graph, then take the tier with the largest lower bound."""
    tiers = {int(x): y["candidate_steps"] for x, y in json.loads(text).items() if x.isdigit()}
    assert all(len(x) == 1 for x in tiers.values())
    bounds = sorted(tiers)

    def look_up(batch: int) -> int:
        place = bisect_left(graphs, batch)
        padded = graphs[place] if place < len(graphs) else batch
        return tiers[bounds[max(0, bisect_right(bounds, padded) - 1)]][0]

    return look_up


def trtllm_schedule(text: str) -> tuple[int, dict[int, int]]:
    """Longest length and schedule out of the YAML, read line by line."""
    lines = [x.split(": ") for x in text.splitlines() if not x.startswith("#")]
    pairs = {x.strip(): y for x, *rest in lines for y in rest}
    return int(pairs["max_draft_len"]), {int(x): int(y) for x, y in pairs.items() if x.isdigit()}


def trtllm_rule(text: str, upper: bool) -> Callable[[int], int]:
    """Keys as largest batches of tiers, 0 beyond; or as smallest ones."""
    longest, schedule = trtllm_schedule(text)
    keys = sorted(schedule)
    assert keys[0] == 1
    assert schedule[1] == longest == max(schedule.values())

    def look_up(batch: int) -> int:
        if upper:
            place = bisect_left(keys, batch)
            return schedule[keys[place]] if place < len(keys) else 0
        return schedule[keys[bisect_right(keys, batch) - 1]]

    return look_up


def graphs_of(engine: str) -> list[int]:
    if engine == "sglang":
        sizes = [*range(1, 9), *range(10, 33, 2), *range(40, 65, 4), *range(72, 257, 8)]
        return [*sizes, *range(272, LAST + 1, 16)]
    if engine == "vllm":
        return [1, 2, 4, *range(8, 256, 8), *range(256, LAST + 1, 16)]
    return [1, 2, 4, *range(8, 129, 8), 256, 512]


def rules_of(engine: str, text: str) -> list[Callable[[int], int]]:
    if engine == "vllm":
        return [vllm_rule(text)]
    if engine == "sglang":
        return [sglang_rule(text, graphs_of(engine))]
    return [trtllm_rule(text, upper=True), trtllm_rule(text, upper=False)]


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("engine", TIERED)
def test_the_engine_chooses_for_every_batch_what_the_plan_says(engine: str, ragged: bool) -> None:
    asked = request(server_profile(ragged=ragged))
    exported = find_exporter(engine).export(asked)
    expected = planned(asked, graphs_of(engine))
    assert len(set(expected.values())) >= 4
    assert 0 in expected.values()
    falling = sorted(expected.values(), reverse=True) == list(expected.values())
    assert falling != ragged
    for look_up in rules_of(engine, exported.content):
        assert {x: look_up(x) for x in ALL} == expected


@pytest.mark.parametrize("engine", TIERED)
def test_a_file_with_one_length_changed_is_told_from_the_plan(engine: str) -> None:
    """Negative control of the test above."""
    asked = request(server_profile())
    content = find_exporter(engine).export(asked).content
    wrong = {"vllm": ", 0]", "sglang": "[\n   0\n  ]", "trtllm": ": 0\n"}[engine]
    assert wrong in content
    changed = content.replace(wrong, wrong.replace("0", "1"), 1)
    expected = planned(asked, graphs_of(engine))
    assert any({x: y(x) for x in ALL} != expected for y in rules_of(engine, changed))


@pytest.mark.parametrize("engine", TIERED)
def test_own_graph_sizes_few_settings_and_a_smaller_largest_batch_hold(engine: str) -> None:
    profile = server_profile()
    edges = [3, 50, 200, 300]
    asked = request(profile, graph_sizes=(3, 50, 200, 400), max_batch=300, rule=Rule(ranges=2))
    content = find_exporter(engine).export(asked).content
    plan = make_plan(asked.costs, asked.acceptance, Chain(), edges, [64.0], rule=Rule(ranges=2))
    lengths = {x.batch: x.chosen.setting.nodes for x in plan.cells}
    assert len(set(lengths.values())) == 2
    rule = sglang_rule(content, edges) if engine == "sglang" else rules_of(engine, content)[0]
    assert {x: rule(x) for x in edges} == lengths
    if engine == "vllm":
        assert json.loads(content)["num_speculative_tokens_per_batch_size"][-1][1] == 300
    if engine == "trtllm":
        assert max(trtllm_schedule(content)[1]) == 300
        assert rule(301) == 0


@pytest.mark.parametrize("engine", TIERED)
def test_a_least_length_never_pauses_the_drafter(engine: str) -> None:
    asked = request(server_profile(), bounds=Bounds(least=1))
    exported = find_exporter(engine).export(asked)
    assert {rules_of(engine, exported.content)[0](x) for x in ALL} >= {1}
    assert 0 not in {rules_of(engine, exported.content)[0](x) for x in ALL}


def test_tensorrt_llm_gets_no_length_above_that_of_batch_1() -> None:
    """Batch 1 is made dear, so that larger ones would draft more."""

    def seconds(batch: int, size: int, context: int) -> float:
        return 0.02 + (0.006 * size if batch == 1 else 1e-4 * size)

    profile = make_profile(seconds, batches=(1, 4, 8), sizes=(1, 2, 4, 8, 16, 32, 64, 128))
    costs = profile.drafters["ngram"]
    asked = request(profile.model_copy(update={"drafters": {"it": costs}}), max_batch=8)
    free = find_exporter("vllm").export(asked)
    assert vllm_rule(free.content)(1) < vllm_rule(free.content)(8)
    bound = find_exporter("trtllm").export(asked)
    lengths = {trtllm_rule(bound.content, upper=True)(x) for x in range(1, 9)}
    assert lengths == {vllm_rule(free.content)(1)}


@pytest.mark.parametrize(
    ("kind", "method", "has_model"),
    [("ngram", "ngram", False), ("lm", "draft_model", True), ("eagle3", "eagle3", True)],
)
def test_vllm_is_told_what_drafts_and_nothing_it_does_not_know(
    kind: str, method: str, has_model: bool
) -> None:
    asked = request(server_profile(kind), draft="some/draft", target="a target")
    exported = find_exporter("vllm").export(asked)
    value = json.loads(exported.content)
    assert value.pop("method") == method
    assert value.pop("model", None) == ("some/draft" if has_model else None)
    assert sorted(value) == ["num_speculative_tokens", "num_speculative_tokens_per_batch_size"]
    words = shlex.split(exported.command)
    assert words[:5] == ["vllm", "serve", "a target", "--max-num-seqs", "512"]


def test_sglang_starts_on_one_of_its_candidates_and_limits_the_batch() -> None:
    exported = find_exporter("sglang").export(request(server_profile(), Path("a file")))
    words = shlex.split(exported.command)
    options = dict(pairwise(words))
    candidates = {
        y for x in json.loads(exported.content).values() for y in x.get("candidate_steps", [])
    }
    assert int(options["--speculative-num-steps"]) in candidates
    assert options["--speculative-adaptive-config"] == "a file"
    assert options["--max-running-requests"] == "512"
    assert json.loads(exported.content)["_smartprof"]["profile"] == "sha256:" + "a" * 64


def test_sglangs_static_tree_is_the_best_of_the_family_at_that_batch() -> None:
    asked = request(server_profile(), batch=4)
    content = find_exporter("sglang-static").export(asked).content
    flags = dict(x.split(": ") for x in content.splitlines() if not x.startswith("#"))
    plan = make_plan(asked.costs, asked.acceptance, find_family("tree"), [4], [64.0])
    setting = plan.cells[0].chosen.setting
    assert setting.top_k > 1
    assert int(flags["speculative-num-steps"]) == setting.depth
    assert int(flags["speculative-eagle-topk"]) == setting.top_k
    assert int(flags["speculative-num-draft-tokens"]) == 1 + setting.nodes
    assert "sha256:" + "a" * 64 in content


def test_transformers_drafts_the_best_length_of_batch_1() -> None:
    from transformers import GenerationConfig

    for kind, option in (("lm", "num_assistant_tokens"), ("ngram", "prompt_lookup_num_tokens")):
        asked = request(server_profile(kind), max_batch=1)
        content = json.loads(find_exporter("transformers").export(asked).content)
        config = GenerationConfig()
        assert set(config.update(**content)) == {"_smartprof"}  # it knows all the others
        config.validate()
        assert getattr(config, option) == planned(replace(asked, max_batch=LAST), [1, 512])[1]
        if kind == "lm":
            assert config.num_assistant_tokens_schedule == "constant"
            assert config.assistant_confidence_threshold == 0


def test_llamacpp_gets_the_one_length_that_is_best_over_all_batches() -> None:
    asked = request(server_profile("lm"), max_batch=16)
    exported = find_exporter("llamacpp").export(asked)
    words = shlex.split(exported.content)
    options = dict(zip(words[::2], words[1::2], strict=True))
    plan = make_plan(
        asked.costs, asked.acceptance, Chain(), range(1, 17), [64.0], rule=Rule(ranges=1)
    )
    assert int(options.pop("--spec-draft-n-max")) == plan.cells[0].chosen.setting.nodes
    assert options == {
        "--spec-type": "draft-simple",
        "--spec-draft-model": "DRAFT",
        "--spec-draft-n-min": "0",
        "--spec-draft-p-min": "0",
    }
    assert "-np 16" in exported.command
    one = find_exporter("llamacpp").export(replace(asked, batch=1))
    assert shlex.split(one.content)[5] == str(planned(replace(asked, max_batch=LAST), [1, 512])[1])


def sps_rule(text: str) -> Callable[[int, int], float]:
    """bias + alpha(requests) + theta(requests + budget), linear and held outside."""
    table = json.loads(text)
    assert table["bias_seconds"] > 0

    def step(requests: int, budget: int) -> float:
        alpha = np.interp(requests, table["bs_probes"], table["alpha_seconds"])
        theta = np.interp(requests + budget, table["m_probes"], table["theta_seconds"])
        return table["bias_seconds"] + float(alpha) + float(theta)

    return step


def test_sglangs_cost_table_is_exact_where_the_profile_is_a_sum() -> None:
    profile = server_profile()
    exported = find_exporter("sglang-sps").export(request(profile))
    costs, step = CostModel(profile, "it"), sps_rule(exported.content)
    for batch, tokens in ((1, 1), (4, 64), (16, 2048), (512, 1024), (64, 90)):
        seconds = costs.verify(batch, tokens, 64.0) + costs.round_overhead(batch, tokens)
        seconds += costs.draft_catchup(batch, batch, 64.0)
        assert step(batch, tokens - batch) == pytest.approx(seconds, rel=1e-6)


def test_sglangs_cost_table_says_how_far_it_is_off() -> None:
    asked = request(server_profile(ragged=True))
    exported = find_exporter("sglang-sps").export(asked)
    step = sps_rule(exported.content)
    table = json.loads(exported.content)
    wanted = step_seconds(asked.costs, table["bs_probes"], table["m_probes"], 64.0)
    errors = [
        abs(step(batch, tokens - batch) / wanted[x, y] - 1)
        for x, batch in enumerate(table["bs_probes"])
        for y, tokens in enumerate(table["m_probes"])
        if tokens >= batch
    ]
    assert max(errors) > 0.01
    assert f"up to {100 * max(errors):.1f} % off" in " ".join(exported.remarks)
    assert fit_sum(wanted).worst == pytest.approx(max(errors))


def test_remarks_say_what_the_engine_cannot_express_and_where_it_came_from() -> None:
    exported: Export = find_exporter("vllm").export(request(server_profile(), context=300.0))
    text = "\n".join(exported.remarks)
    assert "SYNTHETIC" in text
    assert "context axis is dropped: settings are those at context 300" in text
    assert "trees become chains" in text
    assert "sha256:" + "a" * 64 in text
    one_rank = replace(request(server_profile()), acceptance=read_acceptance("0.7"))
    assert "trees" not in "\n".join(find_exporter("vllm").export(one_rank).remarks)


def test_the_loss_at_other_contexts_is_what_the_chosen_lengths_lose_there() -> None:
    def seconds(batch: int, size: int, context: int) -> float:
        return 0.02 + (1e-5 if context == 64 else 4e-3) * size

    profile = make_profile(seconds, batches=(1, 4), contexts=(64, 1024))
    costs = profile.drafters["ngram"]
    asked = request(profile.model_copy(update={"drafters": {"it": costs}}), max_batch=4)
    text = "\n".join(find_exporter("vllm").export(asked).remarks)
    here, there = (
        make_plan(asked.costs, asked.acceptance, Chain(), [1, 2, 4], [x]) for x in (64.0, 1024.0)
    )
    losses = []
    for chosen, best in zip(here.cells, there.cells, strict=True):
        length = chosen.chosen.setting.nodes
        fixed = make_plan(
            asked.costs,
            asked.acceptance,
            Chain(),
            [chosen.batch],
            [1024.0],
            bounds=Bounds(depth=length, least=length),
        )
        losses.append(1 - fixed.cells[0].chosen.speedup / best.chosen.speedup)
    assert max(losses) > 0.01
    assert f"up to {100 * max(losses):.1f} % at 1024" in text


@pytest.mark.parametrize(
    ("engine", "options", "complaint"),
    [
        ("transformers", {"max_batch": 2}, "--max-batch of at most 1"),
        ("vllm", {"batch": 4}, "vllm: expected no --batch"),
        ("sglang-sps", {"rule": Rule(min_gain=0.1)}, "expected no --min-gain"),
        ("llamacpp", {"graph_sizes": (1, 2)}, "expected no --graph-sizes"),
        ("llamacpp", {"rule": Rule(ranges=2)}, "expected no --settings"),
        ("vllm", {"acceptance": read_acceptance("0.0")}, "speculation pays at no batch"),
        ("llamacpp", {"acceptance": read_acceptance("0.0")}, "speculation pays at no batch"),
        ("sglang-static", {"acceptance": read_acceptance("0.0")}, "speculation pays at no batch"),
        ("vllm", {"max_batch": 4000}, "expected a batch of at most 2304"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(
    engine: str, options: dict[str, object], complaint: str
) -> None:
    profile = server_profile("eagle3" if engine == "sglang-sps" else "lm")
    asked = request(profile, **{"max_batch": 1 if engine == "transformers" else LAST, **options})
    with pytest.raises(InputError, match=complaint) as error:
        find_exporter(engine).export(asked)
    assert "\n" not in str(error.value)


def test_a_drafter_that_the_engine_does_not_have_is_refused() -> None:
    for name, exporter in EXPORTERS.items():
        with pytest.raises(InputError, match=f"{name}: expected a drafter of kind"):
            exporter.export(request(server_profile("hybrid")))

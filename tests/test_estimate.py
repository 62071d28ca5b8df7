"""Estimates against known answers, a second reading of their own file, and measured profiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from smartprof.errors import InputError, ModelError
from smartprof.estimate.against import verify_errors
from smartprof.estimate.build import STRAIGHT, Grid, estimate_profile
from smartprof.estimate.devices import DEVICES, find_sheet
from smartprof.estimate.machine import Machine, Shares, cpu_machine, gpu_machine
from smartprof.estimate.passes import Product, product_seconds, read_elements, tile_seconds
from smartprof.estimate.quantities import find_drafter, plain_decode, round_overhead, verify
from smartprof.models.shapes import named_shape
from smartprof.profile.cost import CostModel
from smartprof.profile.files import find_profile, load_profile, save_profile
from smartprof.profile.schema import Profile
from tests.profiles import make_key, make_profile
from tests.test_cli import smartprof

TARGET = named_shape("Llama-3.1-8B")
HEAD = find_drafter("EAGLE3-Llama-3.1-8B", TARGET)
SMALL = Grid(batches=(1, 8), contexts=(128, 2048), tokens=320)


def machine(name: str = "a100", **shares: float) -> Machine:
    return gpu_machine(find_sheet(name), Shares(**shares), "cuda_graph")


def ideal(machine: Machine) -> Machine:
    """The same without fixed costs."""
    return replace(machine, kernel_seconds=0.0, attention_seconds=0.0)


@pytest.fixture(scope="module")
def profile() -> Profile:
    return estimate_profile(machine(), TARGET, HEAD, SMALL, "by hand")


def test_a_product_of_one_row_takes_the_reading_of_its_matrix() -> None:
    found = product_seconds(machine(bandwidth=1.0), Product(4096, 14_336), 1)
    elements = 4096 * 14_336 + 4096 + 14_336
    assert found == pytest.approx(2 * elements / 2039e9)


def test_a_product_of_many_rows_takes_its_operations_when_its_waves_are_full() -> None:
    full = Product(128 * 108, 4096)  # one tile for each of 108 SMs
    ideal_seconds = 2.0 * 64 * full.elements / 312e12
    assert tile_seconds(machine(compute=1.0), full, 64) == pytest.approx(ideal_seconds)


@pytest.mark.parametrize("tokens", [65, 128, 129])
def test_tiles_cost_whole_even_where_one_token_falls_into_them(tokens: int) -> None:
    full = Product(128 * 108, 4096)
    one = tile_seconds(machine(), full, 1)
    assert tile_seconds(machine(), full, tokens) == pytest.approx(-(-tokens // 64) * one)


def test_the_sum_of_reading_and_computing_is_taken_on_a_cpu_and_the_larger_on_a_gpu() -> None:
    cpu = cpu_machine("x", 1e11, 2e10, 2**34, Shares())
    product = Product(1000, 1000)
    parts = 4 * (1e6 + 2 * 10 * 1000) / 2e10, 2.0 * 10 * 1e6 / 1e11
    assert product_seconds(cpu, product, 10) == pytest.approx(sum(parts))
    assert product_seconds(replace(cpu, overlap=True), product, 10) == pytest.approx(max(parts))


@pytest.mark.parametrize("tokens", [1, 64, 65, 400])
def test_a_device_of_twice_the_rates_takes_half_the_time(tokens: int) -> None:
    slow = ideal(machine())
    fast = replace(
        slow,
        flops=2 * slow.flops,
        bandwidth=2 * slow.bandwidth,
        kv_bandwidth=2 * slow.kv_bandwidth,
    )
    found = [verify(x, TARGET, 1, tokens, 300) for x in (slow, fast)]
    assert found[0] == pytest.approx(2 * found[1])


def test_one_plain_token_is_not_faster_than_reading_all_weights_at_the_peak() -> None:
    for name, sheet in DEVICES.items():
        floor = 2 * read_elements(TARGET) / sheet.bandwidth
        found = verify(machine(name), TARGET, 1, 1, 128)
        assert floor / 0.85 < found < floor / 0.7, name


def test_the_context_costs_what_its_keys_and_values_take_to_read() -> None:
    quick = ideal(machine())
    longer, shorter = (verify(quick, TARGET, 32, 32, x) for x in (3000, 2000))
    cached = 32 * 1000 * TARGET.kv_bytes_per_token(2)
    assert longer - shorter == pytest.approx(cached / quick.kv_bandwidth, rel=1e-6)


def test_the_head_costs_less_than_the_target_and_a_catch_up_more_than_a_step() -> None:
    here = machine()
    step = HEAD.step(here, 4, 4, 512)
    assert step < HEAD.catchup(here, 4, 4, 512) < 0.2 * verify(here, TARGET, 4, 4, 512)
    model = find_drafter("Llama-3.2-1B", TARGET)
    assert model.kind == "lm"
    assert step < model.step(here, 4, 4, 512) < verify(here, TARGET, 4, 4, 512)


@pytest.mark.parametrize("name", ["EAGLE3-Llama-2-7B", "EAGLE3-Llama-3.3-70B", "Qwen3-8B"])
def test_a_drafter_of_another_target_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"(use|or) EAGLE3-Llama-3\.1-8B"):
        find_drafter(name, TARGET)


def test_the_file_holds_the_formulas_between_its_knots_as_well(
    profile: Profile, tmp_path: Path
) -> None:
    save_profile(profile, tmp_path / "p.json")
    costs = CostModel(load_profile(tmp_path / "p.json"), "eagle3")
    here, rng = machine(), np.random.default_rng(3)
    for size in (int(x) for x in rng.integers(8, 321, 60)):
        for context in (128, 2048):
            asked = costs.verify(8, size, context), costs.draft_step(8, size, context)
            exact = verify(here, TARGET, 8, size, context), HEAD.step(here, 8, size, context)
            assert asked == pytest.approx(exact, rel=20 * STRAIGHT), (size, context)
        overhead = round_overhead(here, TARGET, 8, size)
        assert costs.round_overhead(8, size) == pytest.approx(overhead, rel=20 * STRAIGHT)
    plain = plain_decode(here, TARGET, 8, 128)
    assert costs.plain_decode(8, 128) == pytest.approx(plain, rel=1e-5)


def test_nothing_in_the_file_looks_measured(profile: Profile) -> None:
    surfaces = [profile.verify, profile.plain_decode, profile.round_overhead]
    surfaces += [profile.drafters["eagle3"].draft_step, profile.drafters["eagle3"].draft_catchup]
    assert all(x.anchors == [] for x in surfaces)
    assert (profile.quality.shapes, profile.quality.held_out.count) == (0, 0)
    assert profile.provenance.kind == "analytic"
    found = CostModel(profile, "eagle3").predict("verify", 8, 64, 128)
    assert (found.tier, found.provenance) == ("interpolated", "analytic")


def test_steps_lie_at_the_edges_of_tiles_and_nearly_free_tokens_before_them(
    profile: Profile,
) -> None:
    curve = profile.verify.curves[0]
    assert 129 in curve.steps
    assert all(x % 64 == 1 for x in curve.steps)
    assert curve.free_tokens_10 == 128
    assert curve.roofline is not None and 64 < curve.roofline.knee < 192


def test_the_note_states_every_share_and_fixed_cost() -> None:
    shares = Shares(0.81, 0.52, 0.63, 7e-6, 84e-6, 0.95e-3)
    note = gpu_machine(find_sheet("l40s"), shares, "eager").note
    for stated in ("0.81", "0.52", "0.63", "7 us", "84 us", "0.95 ms", "362.05", "864", "142"):
        assert stated in note
    assert "nothing measured" in note


def test_contexts_that_do_not_fit_are_left_out_and_named() -> None:
    found = estimate_profile(machine("l40s"), TARGET, HEAD, Grid(), "by hand")
    assert found.verify.domain.context == (128, 2048)
    assert "left out: context 4096: does not fit in memory" in found.quality.warnings
    huge = named_shape("Llama-3.3-70B")
    head = find_drafter("EAGLE3-Llama-3.3-70B", huge)
    with pytest.raises(InputError, match="does not fit in"):
        estimate_profile(machine("l4"), huge, head, Grid(), "by hand")


def test_a_small_drafter_that_caches_could_hold_is_warned_about() -> None:
    target = named_shape("SmolLM2-135M")
    head = find_drafter("EAGLE3-SmolLM2-135M", target)
    found = estimate_profile(machine("h100"), target, head, SMALL, "by hand")
    assert any("fit in the L2 cache" in x for x in found.quality.warnings)


def of_smollm(scale: float) -> Profile:
    """A profile measured on a machine that takes `scale` times what is estimated."""
    target = named_shape("SmolLM2-135M")
    known = {"name": "SmolLM2", "digest": target.digest, "parameters": target.parameters}
    key = make_key().model_copy(update={"target": make_key().target.model_copy(update=known)})
    here = cpu_machine("x", 1e11, 2e10, 2**34, Shares())
    return make_profile(lambda b, m, c: scale * verify(here, target, b, m, c), key=key)


@pytest.mark.parametrize(("scale", "error"), [(1.0, 0.0), (0.8, 25.0), (2.0, 50.0)])
def test_the_error_against_a_known_machine_is_the_known_one(scale: float, error: float) -> None:
    here = cpu_machine("x", 1e11, 2e10, 2**34, Shares())
    assert verify_errors(here, of_smollm(scale)).median_abs_pct == pytest.approx(error, abs=1e-6)


def test_an_estimate_is_not_held_against_an_estimate(profile: Profile) -> None:
    with pytest.raises(InputError, match="expected a measured profile, got one that is analytic"):
        verify_errors(machine(), profile)


def test_the_command_writes_a_profile_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "l40s.json"
    said = smartprof("estimate", "--device", "l40s", "--tokens", 256, "--out", path)
    assert said.code == 0, said
    assert "warning: an estimate from a data sheet: nothing here was measured" in said.out
    written = load_profile(path)
    assert written.provenance.command == (
        f"smartprof estimate --device l40s --tokens 256 --out {path}"
    )
    assert written.key.device.name == "NVIDIA L40S"
    again = smartprof("estimate", "--device", "l40s", "--out", path)
    assert (again.code, again.out) == (1, "")


def test_the_command_prints_the_error_against_a_measured_profile() -> None:
    peaks = ("--flops", 2e11, "--bandwidth", 2.3e10)
    said = smartprof("estimate", "--against", "xeon-2t-smollm2.json", *peaks)
    assert said.code == 0, said
    assert "verify: median error" in said.out
    shipped = load_profile(find_profile("xeon-2t-smollm2.json"))
    assert f"over {len(shipped.verify.anchors)} measured points" in said.out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--device", "b200"], "--device b200: expected one of a100-40, a100,"),
        ([], "expected --device, one of"),
        (["--device", "x", "--flops", 1e12], "expected --device NAME, --flops, --bandwidth and"),
        (["--device", "a100", "--target", "x"], "no model 'x': expected a named shape"),
        (["--device", "a100", "--drafter", "EAGLE3-x"], "unknown head 'EAGLE3-x'"),
        (["--device", "a100", "--compute-share", 1.2], "--compute-share: expected more than 0"),
        (["--device", "a100", "--batches", "4,2"], "--batches: expected rising numbers"),
        (["--device", "a100", "--tokens", 64], "--tokens: expected at least 2 for each of 64"),
        (["--device", "a100", "--execution", "x"], "expected --execution cuda_graph or eager"),
        (["--device", "a100", "--memory", 10**10], "--device a100: expected no --memory"),
        (
            ["--device", "a100", "--step-seconds", "inf"],
            "--step-seconds: expected 0 to 10, got inf",
        ),
        (
            ["--against", "xeon-2t-smollm2.json"],
            "expected --out FILE or --against PROFILE, got both",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(
    options: list[object], expected: str, tmp_path: Path
) -> None:
    said = smartprof("estimate", *options, "--out", tmp_path / "p.json")
    assert said.code == 1
    assert said.err.startswith(f"smartprof: {expected}"), said.err
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_neither_a_file_nor_a_profile_to_hold_it_against_is_refused() -> None:
    said = smartprof("estimate", "--device", "a100")
    assert (said.code, said.err) == (
        1,
        "smartprof: expected --out FILE to write, or --against PROFILE, got neither\n",
    )

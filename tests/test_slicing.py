"""Depth slicing: what is extrapolated from k and 2k layers, and when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smartprof import device
from smartprof.calibrate import slicing
from smartprof.calibrate.plan import Point
from smartprof.calibrate.slicing import (
    SlicedTimings,
    extrapolated,
    halves,
    layers_that_fit,
    load_for_timing,
    sliced_shape,
)
from smartprof.calibrate.sweep import LENGTHENED, Bench, sampler
from smartprof.decode.target import Target
from smartprof.device import resolve_device
from smartprof.drafters.ngram import NgramDrafter
from smartprof.errors import InputError
from smartprof.models.shapes import named_shape
from smartprof.models.transformer import Transformer
from smartprof.models.weights import random_weights
from smartprof.profile.files import load_profile
from tests.benchmark_scripts import load_benchmark
from tests.test_cli import smartprof
from tests.tiny_model import write_tiny_model

TINY = replace(named_shape("tiny-llama"), layers=6)
LLAMA_70B = named_shape("Llama-3.3-70B")


@pytest.fixture(scope="module")
def model() -> Transformer:
    return Transformer(TINY, random_weights(TINY, 0, torch.float32, "cpu"))


@pytest.mark.parametrize("layers", [12, 30, 80])
def test_a_pass_that_grows_evenly_with_depth_is_extrapolated_exactly(layers: int) -> None:
    fixed, each, k = 0.011, 0.003, 5
    shallow, deep = fixed + k * each, fixed + 2 * k * each
    found = extrapolated(shallow, deep, (layers - 2 * k) / k)
    assert found == pytest.approx(fixed + layers * each)


def test_noise_never_makes_more_layers_cheaper() -> None:
    assert extrapolated(1.1, 1.0, 3.0) == 1.0


def test_the_two_depths_run_on_different_layers_of_the_same_weights(model: Transformer) -> None:
    deep, shallow = halves(model)
    assert (deep.shape.layers, shallow.shape.layers) == (4, 2)
    assert [*deep.blocks, *shallow.blocks] == model.blocks
    assert deep.head is shallow.head is model.head
    assert model.shape.layers == 6


def bench(model: Transformer) -> Bench:
    return Bench(Target(model, 2, 64), NgramDrafter(), [1, 2, 3])


def test_only_what_runs_through_the_layers_is_extrapolated(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def known(where: Bench, point: Point) -> object:
        return lambda: 1.0 + 0.5 * where.target.model.shape.layers

    monkeypatch.setattr("smartprof.calibrate.sweep.sampler", known)
    monkeypatch.setattr(slicing, "sampler", known)
    timings = SlicedTimings(*(bench(x) for x in halves(model)), 20)
    assert timings.sampler(Point("verify", 1, 4, 16))() == pytest.approx(1 + 0.5 * 20)
    assert timings.sampler(Point("plain_decode", 1, 1, 16))() == pytest.approx(1 + 0.5 * 20)
    assert timings.sampler(Point("round_overhead", 1, 4, 16))() == pytest.approx(1 + 0.5 * 4)


@pytest.mark.parametrize("quantity", ["verify", "plain_decode"])
def test_slices_run_on_their_own_caches(model: Transformer, quantity: str) -> None:
    deep, shallow = (bench(x) for x in halves(model))
    assert shallow.target.cache.data.shape[0] != deep.target.cache.data.shape[0]
    assert SlicedTimings(deep, shallow, 20).sampler(Point(quantity, 2, 2, 16))() > 0
    assert sampler(shallow, Point(quantity, 2, 2, 16))() > 0


@pytest.mark.parametrize("layers", [0, 3, 80])
def test_more_layers_than_a_third_are_refused(layers: int) -> None:
    with pytest.raises(InputError, match=r"expected --layers of 1 to 2 for tiny-llama"):
        sliced_shape(TINY, layers)
    assert sliced_shape(TINY, 2).layers == 6


def test_a_model_is_sliced_only_where_it_does_not_fit() -> None:
    assert layers_that_fit(LLAMA_70B, 160 * 10**9, 2) is None
    fits = layers_that_fit(LLAMA_70B, 80 * 10**9, 2)
    assert fits is not None and 1 <= fits <= 80 // 3
    held = sliced_shape(LLAMA_70B, fits)
    assert held.weight_bytes(2) < 80 * 10**9
    with pytest.raises(InputError, match="expected memory for 3 layers"):
        layers_that_fit(LLAMA_70B, 6 * 10**9, 2)


def test_what_does_not_fit_is_loaded_in_slices_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = named_shape("tiny-llama")
    here = resolve_device("cpu")
    assert not load_for_timing("shape:tiny-llama", here, None, None).sliced
    deeper = replace(shape, layers=40)
    monkeypatch.setattr(slicing, "free_bytes", lambda _: deeper.weight_bytes(4) // 2)
    monkeypatch.setitem(slicing.resolve_target.__globals__, "named_shape", lambda _: deeper)
    found = load_for_timing("shape:deep", here, None, None)
    assert found.sliced
    assert found.transformer.shape.layers % 3 == 0
    assert found.weights == f"random weights, {found.transformer.shape.layers} of 40 layers"


def test_calibrate_in_slices_prices_the_whole_model_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "physical_cores", lambda: 1)
    folder = write_tiny_model(tmp_path / "deep", layers=12)
    said = smartprof(
        *("calibrate", "--gpu", "cpu", "--target", folder, "--budget", 0, "--layers", 2),
        *("--drafter", "ngram", "--out", tmp_path / "p.json"),
    )
    assert said.code == 0, said
    assert "random weights, 6 of 12 layers" in said.err
    profile = load_profile(tmp_path / "p.json")
    assert profile.provenance.note.startswith("random weights, 6 of 12 layers; ")
    whole = slicing.resolve_target(str(folder)).shape
    assert (profile.key.target.digest, whole.layers) == (whole.digest, 12)


def test_the_benchmark_has_room_for_each_of_its_passes(model: Transformer) -> None:
    """Over requests of unequal length, however often they are timed."""
    script = load_benchmark("depth_slicing")
    bench = script.bench(model)
    for point in script.PASSES:
        run = sampler(bench, point)
        assert all(run() > 0 for _ in LENGTHENED)

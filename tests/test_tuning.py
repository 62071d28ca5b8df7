from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smartprof.calibrate.slicing import load_for_timing
from smartprof.device import resolve_device
from smartprof.drafters.table import choose_drafter, drafter_maker
from smartprof.models import packing, probing, tuning
from smartprof.models.inputs import InputLayout
from smartprof.models.kernel_memory import Choice, KernelMemory, Passes
from smartprof.models.kernels import MKL_TILES, Kernels, Size, Way
from smartprof.models.loading import load_model
from smartprof.models.named_shapes import named_shape
from smartprof.models.packing import Linear, can_prepack
from smartprof.models.probing import lay_out_probed
from smartprof.models.transformer import Transformer
from smartprof.models.user_cache import CACHE_VARIABLE
from smartprof.models.weights import random_weights, resolve_target

TINY = named_shape("tiny-llama")
CPU = resolve_device("cpu")
pytestmark = pytest.mark.skipif(not can_prepack(torch.zeros(1)), reason="this torch has no oneDNN")


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every probe of products and of attention that runs."""
    found: list[str] = []

    def counted(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object) -> object:
            found.append(name)
            return function(*arguments)

        return run

    monkeypatch.setattr(probing, "_sweep", counted("products", probing._sweep))
    attention = "smartprof.models.attention_probe._seconds"
    monkeypatch.setattr(
        attention, counted("attention", tuning.measure_attention.__globals__["_seconds"])
    )
    return found


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr("smartprof.models.kernel_memory.load_average", lambda: 0.5)
    return tmp_path / "cache"


def made(memory: KernelMemory | None) -> Transformer:
    return Transformer(TINY, random_weights(TINY, 0, torch.float32, "cpu"), memory=memory)


def laid_out(model: Transformer) -> list[tuple[bool, list[Way], bool]]:
    """What each product keeps: oneDNN's layout, those of MKL, the plain weights."""
    return [(x._packed is not None, list(x._mkl), x._turned is not None) for x in model.linears]


def test_a_second_load_times_nothing_and_runs_as_the_first(timed: list[str]) -> None:
    first = load_model("shape:tiny-llama", CPU)
    assert set(timed) == {"products", "attention"}
    timed.clear()
    second = load_model("shape:tiny-llama", CPU)
    assert timed == []
    assert second.transformer.kernels == first.transformer.kernels
    assert second.transformer.layout == first.transformer.layout
    pairs = zip(first.transformer.linears, second.transformer.linears, strict=True)
    for (one, two), tokens in itertools.product(pairs, (1, 3, 5, 8, 16, 33, 128)):
        x = torch.randn(tokens, one.size[1])
        torch.testing.assert_close(one(x), two(x), atol=0, rtol=0)


def test_calibrating_measures_anew_and_later_loads_follow_it(
    timed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_model("shape:tiny-llama", CPU)
    timed.clear()
    plain = Kernels((1, 7), ("plain", "packed"))
    monkeypatch.setattr(probing, "choose_kernels", lambda _: plain)
    model = load_for_timing("shape:tiny-llama", CPU, None, None)
    assert set(timed) == {"products", "attention"}
    assert {x.kernels for x in model.transformer.linears} == {plain}
    timed.clear()
    found = load_model("shape:tiny-llama", CPU).transformer
    assert timed == []
    assert {x.kernels for x in found.linears} == {plain}
    assert found.layout.costs == model.transformer.layout.costs


@pytest.mark.parametrize("network", ["eagle3:random", "lm:shape:wider"])
def test_networks_of_drafters_are_remembered_too(
    timed: list[str], monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    deep = replace(TINY, name="deep", layers=8)
    shapes = {"deep": deep, "wider": replace(deep, name="wider", intermediate=192)}
    monkeypatch.setitem(resolve_target.__globals__, "named_shape", shapes.__getitem__)
    target, choice = load_model("shape:deep", CPU), choose_drafter(network, "shape:deep")
    timed.clear()
    drafter_maker(choice, target)
    assert set(timed) == {"products", "attention"}
    timed.clear()
    drafter_maker(choice, load_model("shape:deep", CPU))
    assert timed == []


def test_a_draft_model_of_the_target_s_sizes_is_not_measured_a_second_time(
    timed: list[str],
) -> None:
    """Else a calibration would remember the draft model's choice, and time the target's."""
    target = load_model("shape:tiny-llama", CPU, anew=True)
    timed.clear()
    drafter_maker(choose_drafter("lm:shape:tiny-llama", "shape:tiny-llama"), target)
    assert timed == []


def test_nothing_is_remembered_unless_asked_for(timed: list[str], cache: Path) -> None:
    made(None)
    timed.clear()
    made(None)
    assert set(timed) == {"products", "attention"}
    assert not cache.exists()


def test_what_is_right_only_where_it_was_probed_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "lay_out", lambda *_: False)
    model = made(None)
    assert {x.kernels for x in model.linears} == {Kernels()}
    x = torch.randn(3, model.linears[0].size[1])
    expected = x @ model.linears[0].weight.T
    torch.testing.assert_close(model.linears[0](x), expected, atol=1e-5, rtol=1e-5)


def test_nothing_is_measured_for_a_gpu(timed: list[str], cache: Path) -> None:
    memory = KernelMemory({}, cache)
    found = tuning.tune([], TINY, torch.zeros(1, device="meta"), memory)
    assert found == InputLayout(TINY.heads // TINY.kv_heads, TINY.window)
    assert timed == []
    assert not cache.exists()


def remembered(cache: Path, ways: Callable[[Size], Kernels]) -> KernelMemory:
    """A memory of the tiny model that holds these ways."""
    model = made(KernelMemory({}, cache))
    sizes = tuple(x.size for x in model.linears)
    passes = Passes("float32", sizes, TINY.heads, TINY.kv_heads, TINY.head_dim)
    costs = model.layout.costs
    assert costs is not None
    KernelMemory({}, cache).keep(passes, Choice({x: ways(x) for x in sizes}, costs))
    return KernelMemory({}, cache)


@pytest.mark.parametrize(
    ("kernels", "kept"),
    [
        (Kernels(), (False, [], True)),
        (Kernels((1,), ("packed",)), (True, [], False)),
        (Kernels((1, 4), ("padded", "plain")), (True, [], True)),
    ],
    ids=str,
)
def test_only_remembered_ways_are_laid_out(
    cache: Path, kernels: Kernels, kept: tuple[bool, list[Way], bool]
) -> None:
    assert set(map(str, laid_out(made(remembered(cache, lambda _: kernels))))) == {str(kept)}


needs_mkl = pytest.mark.skipif(
    not set(MKL_TILES).issubset(lay_out_probed([Linear(torch.ones(8, 8))])),
    reason="this torch has no layout of MKL",
)
MKL = Kernels((1, 6, 9), ("packed", "mkl8", "packed"))


@needs_mkl
def test_a_remembered_layout_of_mkl_gives_the_right_products(cache: Path, timed: list[str]) -> None:
    memory = remembered(cache, lambda _: MKL)
    timed.clear()
    model = made(memory)
    assert timed == []
    assert set(map(str, laid_out(model))) == {"(True, ['mkl8'], False)"}
    plain = Transformer(TINY, random_weights(TINY, 0, torch.float32, "cpu"), prepack=False)
    for one, two in zip(model.linears, plain.linears, strict=True):
        x = torch.randn(7, one.size[1])
        torch.testing.assert_close(one(x), two(x), atol=1e-5, rtol=1e-5)


@needs_mkl
@pytest.mark.parametrize("fault", ["wrong products", "no MKL"])
def test_a_remembered_layout_that_does_not_work_here_is_measured_anew(
    cache: Path, timed: list[str], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    memory = remembered(cache, lambda _: MKL)
    timed.clear()
    right = packing._mkl
    broken = None if fault == "no MKL" else lambda *x: right(*x).mul_(1.001)
    monkeypatch.setattr(packing, "_mkl", broken)
    model = made(memory)
    assert set(timed) == {"products", "attention"}
    assert not any(x._mkl for x in model.linears)
    timed.clear()
    assert made(KernelMemory({}, cache)).kernels == model.kernels
    assert timed == []

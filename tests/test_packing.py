from __future__ import annotations

import pytest
import torch

from smartprof.models import packing, probing
from smartprof.models.kernels import (
    MKL_TILES,
    PROBED,
    Kernels,
    Size,
    Way,
    choose_kernels,
    ways_at,
)
from smartprof.models.packing import Linear, can_prepack, kernels_text, lay_out, settle
from smartprof.models.panels import Panels, load_panels
from smartprof.models.probing import lay_out_probed, measure_kernels
from tests.compilers import needs_compiler

WEIGHT = torch.randn(40, 24, generator=torch.Generator().manual_seed(0))
needs_onednn = pytest.mark.skipif(not can_prepack(WEIGHT), reason="this torch has no oneDNN")
needs_mkl = pytest.mark.skipif(
    not set(MKL_TILES).issubset(lay_out_probed([Linear(WEIGHT)])),
    reason="this torch has no layout of MKL",
)
PANELS: list[Way] = [] if load_panels() is None else ["panels"]


@needs_onednn
@pytest.mark.parametrize("bias", [None, torch.linspace(-1, 1, 40)], ids=["bare", "bias"])
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 9, 65])
def test_every_way_gives_the_same_product_and_sum(tokens: int, bias: torch.Tensor | None) -> None:
    x, other = torch.randn(tokens, 24), torch.randn(tokens, 40)
    expected = torch.nn.functional.linear(x, WEIGHT, bias)
    kept = other.clone()
    ways: list[Way] = ["plain", "packed", *PANELS]
    for way in [*ways, "padded"] if tokens < 4 else ways:
        linear = Linear(WEIGHT.clone(), bias)
        linear.lay_out(way)
        linear.settle(Kernels((1,), (way,)))
        torch.testing.assert_close(linear(x), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(linear.add_to(other, x), expected + other, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(other, kept, atol=0, rtol=0)


@needs_mkl
@pytest.mark.parametrize("bias", [None, torch.linspace(-1, 1, 40)], ids=["bare", "bias"])
@pytest.mark.parametrize(("way", "tokens"), [("mkl8", 5), ("mkl8", 8), ("mkl16", 9), ("mkl16", 16)])
def test_a_tile_of_mkl_gives_the_same_product_and_sum(
    way: Way, tokens: int, bias: torch.Tensor | None
) -> None:
    x, other = torch.randn(tokens, 24), torch.randn(tokens, 40)
    expected = torch.nn.functional.linear(x, WEIGHT, bias)
    linear = Linear(WEIGHT.clone(), bias)
    assert linear.lay_out(way)
    linear.settle(Kernels((1,), (way,)))
    torch.testing.assert_close(linear(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(linear.add_to(other, x), expected + other, atol=1e-5, rtol=1e-5)


@needs_mkl
def test_a_layout_of_mkl_whose_products_are_wrong_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = packing._mkl

    def wrong_for_tiles_of_8(*arguments: object) -> torch.Tensor:
        return right(*arguments).mul_(1.001 if arguments[-1] == 8 else 1)

    monkeypatch.setattr(packing, "_mkl", wrong_for_tiles_of_8)
    linear = Linear(WEIGHT.clone())
    for _ in range(2):
        assert lay_out_probed([linear]) == [*PANELS, "mkl16"]


@needs_compiler
def test_panels_whose_products_are_wrong_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Panels.product
    monkeypatch.setattr(Panels, "product", lambda *x: right(*x).mul_(1.001))
    linear = Linear(WEIGHT.clone())
    for _ in range(2):
        assert "panels" not in lay_out_probed([linear])


@needs_mkl
def test_a_large_model_gets_no_copies_for_mkl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MKL_BYTES", 4 * WEIGHT.numel() - 1)
    assert lay_out_probed([Linear(WEIGHT.clone())]) == PANELS


def test_no_tile_of_mkl_is_chosen_for_more_tokens_than_it_has() -> None:
    always = {
        x: {y: 0.1 if y in MKL_TILES else 1.0 for y in ways_at(x, [*MKL_TILES])} for x in PROBED
    }
    chosen = choose_kernels(always)
    assert {chosen.way(x) for x in (8, 16)} == set(MKL_TILES)
    assert all(x <= MKL_TILES.get(chosen.way(x), x) for x in range(1, 200))


@needs_onednn
def test_the_chosen_ways_give_the_same_products_at_every_count() -> None:
    linear = Linear(WEIGHT.clone())
    chosen = measure_kernels([linear])
    assert lay_out([linear], chosen)
    settle([linear], chosen)
    for tokens in range(1, 40):
        x = torch.randn(tokens, 24)
        torch.testing.assert_close(linear(x), x @ WEIGHT.T, atol=1e-5, rtol=1e-5)


@needs_onednn
def test_two_products_of_one_layer_do_not_share_memory() -> None:
    linear = Linear(WEIGHT.clone())
    linear.lay_out("padded")
    linear.settle(Kernels((1,), ("padded",)))
    one, two = torch.randn(2, 1, 24)
    first = linear(one)
    linear(two)
    torch.testing.assert_close(first, one @ WEIGHT.T, atol=1e-5, rtol=1e-5)


@needs_onednn
@pytest.mark.parametrize(
    ("ways", "kept"),
    [
        (("packed",), ["packed"]),
        (("padded", "packed"), ["packed"]),
        (("plain", "packed"), ["plain", "packed"]),
        (("plain",), ["plain"]),
        pytest.param(("panels",), ["panels"], marks=needs_compiler),
        pytest.param(("panels", "packed"), ["packed", "panels"], marks=needs_compiler),
    ],
    ids=str,
)
def test_weights_that_no_count_needs_are_freed(ways: tuple[Way, ...], kept: list[str]) -> None:
    linear = Linear(WEIGHT.clone())
    lay_out_probed([linear])
    linear.settle(Kernels(tuple(range(1, len(ways) + 1)), ways))
    held = {"plain": linear.weight, "packed": linear._packed, "panels": linear._panels}
    assert [x for x, y in held.items() if y is not None] == kept


@needs_mkl
def test_only_the_tiles_that_are_needed_stay_and_the_weights_with_them() -> None:
    linear = Linear(WEIGHT.clone())
    assert lay_out_probed([linear]) == [*PANELS, "mkl8", "mkl16"]
    linear.settle(Kernels((1, 8, 9), ("packed", "mkl8", "packed")))
    assert list(linear._mkl) == ["mkl8"]
    assert linear.weight is not None


def test_the_prepacked_way_is_left_only_for_a_gain_worth_having() -> None:
    chosen = choose_kernels(
        {
            1: {"plain": 0.5, "packed": 1.0, "padded": 0.8},
            2: {"plain": 0.9, "packed": 1.0, "padded": 0.8},
            3: {"plain": 0.99, "packed": 1.0, "padded": 0.98},
            4: {"plain": 2.0, "packed": 1.0},
            32: {"plain": 0.9, "packed": 1.0},
            128: {"plain": 0.8, "packed": 1.0},
        }
    )
    assert chosen == Kernels((1, 2, 3, 32), ("plain", "padded", "packed", "plain"))
    ways = [chosen.way(x) for x in (1, 2, 3, 4, 31, 32, 5000)]
    assert ways == ["plain", "padded", "packed", "packed", "packed", "plain", "plain"]


def test_what_was_chosen_is_told_shape_by_shape() -> None:
    linears = [Linear(WEIGHT), Linear(WEIGHT), Linear(WEIGHT.T)]
    linears[2].kernels = Kernels((1, 3), ("padded", "packed"))
    assert kernels_text(linears) == (
        "linear 40x24 plain; linear 24x40 padded from 1, packed from 3 tokens"
    )


@needs_onednn
def test_products_that_other_work_holds_up_choose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in six of the faster way waits for a whole time slice; a sum would choose the other."""
    size = (40, 24)

    def sweep(linears: object, tokens: int, way: Way) -> dict[Size, list[float]]:
        return {size: [1.0] * 5 + [41.0] if way == "plain" else [2.0] * 6}

    monkeypatch.setattr(probing, "_sweep", sweep)
    found = measure_kernels([Linear(WEIGHT.clone())])
    assert found == {size: Kernels((1,), ("plain",))}

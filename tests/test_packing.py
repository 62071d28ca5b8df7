from __future__ import annotations

import pytest
import torch

from smartprof.models.packing import Kernels, Linear, can_prepack, choose_kernels, kernels_text

WEIGHT = torch.randn(40, 24, generator=torch.Generator().manual_seed(0))
needs_onednn = pytest.mark.skipif(not can_prepack(WEIGHT), reason="this torch has no oneDNN")


@needs_onednn
@pytest.mark.parametrize("bias", [None, torch.linspace(-1, 1, 40)], ids=["bare", "bias"])
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 9, 65])
def test_every_way_gives_the_same_product_and_sum(tokens: int, bias: torch.Tensor | None) -> None:
    x, other = torch.randn(tokens, 24), torch.randn(tokens, 40)
    expected = torch.nn.functional.linear(x, WEIGHT, bias)
    kept = other.clone()
    for way in ("plain", "packed", *(["padded"] if tokens < 4 else [])):
        linear = Linear(WEIGHT.clone(), bias)
        linear.prepack()
        linear.settle(Kernels((1,), (way,)))  # type: ignore[arg-type]
        torch.testing.assert_close(linear(x), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(linear.add_to(other, x), expected + other, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(other, kept, atol=0, rtol=0)


@needs_onednn
def test_two_products_of_one_layer_do_not_share_memory() -> None:
    linear = Linear(WEIGHT.clone())
    linear.prepack()
    linear.settle(Kernels((1,), ("padded",)))
    one, two = torch.randn(2, 1, 24)
    first = linear(one)
    linear(two)
    torch.testing.assert_close(first, one @ WEIGHT.T, atol=1e-5, rtol=1e-5)


@needs_onednn
def test_weights_that_no_count_needs_are_freed() -> None:
    for ways, freed in (
        (("packed",), True),
        (("padded", "packed"), True),
        (("plain", "packed"), False),
    ):
        linear = Linear(WEIGHT.clone())
        linear.prepack()
        linear.settle(Kernels(tuple(range(1, len(ways) + 1)), ways))  # type: ignore[arg-type]
        assert (linear.weight is None) == freed


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

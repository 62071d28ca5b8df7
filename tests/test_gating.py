from __future__ import annotations

from typing import Any

import pytest
import torch

from smartprof.models import gating
from smartprof.models.gating import gate_, load_gate
from smartprof.models.workspace import split_gates
from tests.compilers import needs_compiler


def joined(tokens: int, size: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(tokens + size)
    return scale * torch.randn(tokens, 2 * size, generator=generator)


def in_double(x: torch.Tensor) -> torch.Tensor:
    gate, up = x.double().chunk(2, dim=-1)
    return gate / (1 + (-gate).exp()) * up


@needs_compiler
@pytest.mark.parametrize("scale", [1e-6, 1.0, 30.0, 1e3])
@pytest.mark.parametrize(("tokens", "size"), [(1, 8), (1, 1536), (3, 96), (40, 1536)])
def test_it_is_the_gate_computed_in_float64(tokens: int, size: int, scale: float) -> None:
    assert load_gate() is not None
    x = joined(tokens, size, scale)
    gates = split_gates(x.clone())
    found = gate_(gates)
    assert found.data_ptr() == gates.joined.data_ptr()
    torch.testing.assert_close(found.double(), in_double(x), atol=1e-30, rtol=2e-6)
    assert torch.equal(gates.up, x.chunk(2, dim=-1)[1])


@needs_compiler
def test_what_a_token_gets_depends_on_no_other_token() -> None:
    x = joined(50, 512)
    everything = gate_(split_gates(x.clone()))
    for token in range(50):
        assert torch.equal(gate_(split_gates(x[token : token + 1].clone()))[0], everything[token])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [12, 16])
def test_without_the_function_torch_does_it(
    monkeypatch: pytest.MonkeyPatch, size: int, dtype: torch.dtype
) -> None:
    if size % 8 == 0 and dtype == torch.float32:
        monkeypatch.setattr(gating, "load_gate", lambda: None)
    else:
        monkeypatch.delattr(gating, "load_gate")  # not even asked for
    x = joined(4, size).to(dtype)
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    found = gate_(split_gates(x.clone())).double()
    torch.testing.assert_close(found, in_double(x), atol=tolerance, rtol=tolerance)


@needs_compiler
def test_a_function_that_errs_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    right = load_gate()

    class Library:
        @staticmethod
        def gate(*arguments: Any) -> None:
            assert right is not None
            right(*arguments)
            right(*arguments)

    monkeypatch.setattr(gating, "load_c_library", lambda _: Library)
    assert load_gate.__wrapped__() is None

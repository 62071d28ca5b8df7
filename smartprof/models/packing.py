"""Linear layers: plain, or with weights laid out once for oneDNN.

On CPUs a plain float32 product of a few tokens runs far from memory speed on some processors; with
prepacked weights it does not. Which is faster depends on processor, shape and token count, so it is
measured when a model is loaded. Knows nothing about transformers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

PACK_TOKENS_HINT = 8  # the token count oneDNN lays the weights out for: a small verify pass
SMALL_COUNTS = (1, 2, 3)  # where the plain product was seen to win on some processors


class Linear:
    """``y = x W^T + b`` for packed tokens: x [M, in], W [out, in], y [M, out]."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight: Tensor | None = weight
        self.bias = bias
        self.in_features = weight.shape[1]
        self.packed: Tensor | None = None
        self.plain_limit = 0

    def prepack(self) -> None:
        """Lay a copy of the weights out for oneDNN; until `prefer_plain_to` drops it, both are kept."""
        assert self.weight is not None
        self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, PACK_TOKENS_HINT)

    def prefer_plain_to(self, tokens: int) -> None:
        """Use the plain product up to this many tokens; 0 frees the plain weights."""
        self.plain_limit = tokens
        if tokens == 0:
            self.weight = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed is None or x.shape[0] <= self.plain_limit:
            return torch.nn.functional.linear(x, self.weight, self.bias)  # type: ignore[arg-type]
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


def can_prepack(weight: Tensor) -> bool:
    """Whether this torch build and this weight allow oneDNN's own layout."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def prepack_all(linears: Sequence[Linear]) -> int:
    """Prepack every layer, measure where the plain product is still faster, and keep the faster.

    Returns the largest token count for which the plain product stays in use (0: nowhere, and the
    plain weights are freed).
    """
    for linear in linears:
        linear.prepack()
    limit = _measured_plain_limit(linears)
    for linear in linears:
        linear.prefer_plain_to(limit)
    return limit


def _measured_plain_limit(linears: Sequence[Linear]) -> int:
    """The largest of `SMALL_COUNTS` up to which plain products of all layers take less time."""
    limit = 0
    for tokens in SMALL_COUNTS:
        inputs = {size: torch.randn(tokens, size) for size in {x.in_features for x in linears}}
        plain, packed = _interleaved_medians(
            lambda: _run(linears, inputs, plain=True), lambda: _run(linears, inputs, plain=False)
        )
        if plain >= packed:
            break
        limit = tokens
    return limit


def _run(linears: Sequence[Linear], inputs: dict[int, Tensor], plain: bool) -> None:
    tokens = next(iter(inputs.values())).shape[0]
    for linear in linears:  # all layers in turn, so that no weight is found in a cache
        linear.plain_limit = tokens if plain else 0
        linear(inputs[linear.in_features])


def _interleaved_medians(
    first: Callable[[], None], second: Callable[[], None], repeats: int = 3
) -> tuple[float, float]:
    first()
    second()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for run, samples in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            run()
            samples.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])

"""What attention of a pass costs on this CPU, in every way in which it can be run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from smartprof.models.cache import KVCache
from smartprof.models.grouping import AttentionCosts, CallCosts
from smartprof.models.inputs import InputLayout, Tokens, packed_input
from smartprof.models.ragged import load_ragged
from smartprof.models.shapes import ModelShape
from smartprof.stats import undisturbed

REPEATS = 15  # timings of a probe
LONG, WIDE = 512, 16  # slots and tokens of the larger probes
FREE, DEAR = CallCosts(0.0, 0.0, 0.0), CallCosts(1.0, 1.0, 1.0)
RAGGED = AttentionCosts(DEAR, DEAR, FREE)


def measure_attention(shape: ModelShape, dtype: torch.dtype) -> AttentionCosts:
    """Time calls of one request and of several, padded and not; shape: of the layers."""
    function = load_ragged() if dtype == torch.float32 else None
    runs = function is not None and function.serves(shape.heads, shape.kv_heads, shape.head_dim)
    return AttentionCosts(
        alone=_call_costs(shape, dtype, 1, None),
        together=_call_costs(shape, dtype, 2, None),
        ragged=_call_costs(shape, dtype, 2, RAGGED) if runs else None,
    )


def _call_costs(
    shape: ModelShape, dtype: torch.dtype, requests: int, way: AttentionCosts | None
) -> CallCosts:
    layout = InputLayout(shape.heads // shape.kv_heads, costs=way)
    # A layer per timing: keys are not in a core's cache, as in a whole pass.
    layers = replace(shape, layers=REPEATS)
    cache = KVCache(layers, requests, LONG, dtype, torch.device("cpu"))

    def probe(width: int, length: int) -> float:
        tokens = _tokens(requests, width, length)
        attention = packed_input(cache, tokens, layout, requests * width).attention
        query = torch.randn(requests * width, shape.heads, shape.head_dim).to(dtype)
        return _seconds(lambda layer: attention(query, cache, layer))

    call = probe(1, 16)
    narrow, wide = probe(1, LONG), probe(WIDE, LONG)
    slot = max(narrow - call, 0.0) / (requests * (LONG - 16))
    pair = max(wide - narrow, 0.0) / (requests * LONG * (WIDE - 1))
    return CallCosts(call, max(slot - pair, 0.0), pair)


def _tokens(requests: int, width: int, length: int) -> Tokens:
    """Of requests with `width` tokens each, which see `length` slots: no other and all before."""
    request, place = np.divmod(np.arange(requests * width), width)
    before = length - width
    return Tokens(
        token=np.zeros(requests * width, np.int64),
        request=request,
        position=before + place,
        slot=before + place,
        counts=np.full(requests, width),
        before=np.full(requests, before),
        inside=np.eye(width, dtype=np.bool_)[None].repeat(requests, axis=0),
        inside_position=np.tile(before + np.arange(width), (requests, 1)),
    )


def _seconds(run: Callable[[int], object]) -> float:
    samples = []
    for layer in range(REPEATS):
        start = time.perf_counter()
        run(layer)
        samples.append(time.perf_counter() - start)
    return undisturbed(samples)

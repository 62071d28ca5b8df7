"""Exporters by name."""

from __future__ import annotations

from smartprof.errors import InputError
from smartprof.exports.base import Exporter
from smartprof.exports.llamacpp import LlamaCpp
from smartprof.exports.sglang_adaptive import SglangAdaptive
from smartprof.exports.sglang_sps import SglangSps
from smartprof.exports.sglang_static import SglangStatic
from smartprof.exports.transformers import Transformers
from smartprof.exports.trtllm import TensorRtLlm
from smartprof.exports.vllm import Vllm

EXPORTERS: dict[str, Exporter] = {
    x.name: x
    for x in (
        Vllm(),
        SglangAdaptive(),
        SglangStatic(),
        SglangSps(),
        TensorRtLlm(),
        Transformers(),
        LlamaCpp(),
    )
}


def find_exporter(name: str) -> Exporter:
    """By name. Raises InputError naming them all."""
    if name not in EXPORTERS:
        known = "; ".join(f"{x.name} ({x.summary})" for x in EXPORTERS.values())
        raise InputError(f"expected an engine of {known}; got {name!r}")
    return EXPORTERS[name]

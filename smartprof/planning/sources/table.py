"""Sources of acceptance by name."""

from __future__ import annotations

from smartprof.errors import InputError
from smartprof.planning.acceptance import Acceptance
from smartprof.planning.sources.accepted_length import LENGTH
from smartprof.planning.sources.base import Source
from smartprof.planning.sources.learned import LEARNED
from smartprof.planning.sources.rates import RATES, SYNTHETIC
from smartprof.planning.sources.sglang import SGLANG
from smartprof.planning.sources.vllm import VLLM

SOURCES: dict[str, Source] = {x.name: x for x in (RATES, SYNTHETIC, LENGTH, LEARNED, VLLM, SGLANG)}


def read_acceptance(text: str) -> Acceptance:
    """From text such as ``0.7+0.1/0.6``, ``synthetic:0.7``, ``length:2.4/5`` or ``vllm:FILE``.

    Raises InputError, one line, naming the sources or what is wrong with what was given.
    """
    name, separator, rest = text.partition(":")
    if not separator and text[:1] in "0123456789.":
        return RATES.read(text)
    if not separator or name not in SOURCES:
        known = "; ".join(f"{x.name}:{x.form} ({x.meaning})" for x in SOURCES.values())
        raise InputError(f"expected --acceptance as one of {known}; got {text!r}")
    return SOURCES[name].read(rest)

"""Rates written out: `0.7+0.1/0.6`, and the same as an assumption: `synthetic:0.7`."""

from __future__ import annotations

from dataclasses import replace

from smartprof.errors import InputError
from smartprof.planning.acceptance import Acceptance, require_falling
from smartprof.planning.sources.base import Source
from smartprof.trees.positional import PositionalAcceptance


def read_rates(text: str) -> Acceptance:
    """Conditional rates, ranks joined by + and depths by /; the last depth's hold below."""
    try:
        positional = PositionalAcceptance.parse(text)
    except ValueError as error:
        raise InputError(f"--acceptance {error}") from None
    return Acceptance(require_falling(positional), f"stated rates {text}")


def read_synthetic(text: str) -> Acceptance:
    """The same, of nobody's measurement."""
    stated = read_rates(text)
    return replace(stated, origin=f"assumed rates {text}", synthetic=True)


RATES = Source("rates", "0.7+0.1/0.6", "rates that you know: ranks by +, depths by /", read_rates)
SYNTHETIC = Source(
    "synthetic", "0.7 or 0.7+0.1/0.6", "an assumption, marked in every output", read_synthetic
)

"""A plain accepted length: one figure, so a model of one parameter.

The model: every drafted token is accepted with the same probability p, given that the one before it
was. A chain of K tokens then has p + p**2 + ... + p**K accepted; p is solved from that.
"""

from __future__ import annotations

from smartprof.errors import InputError
from smartprof.planning.acceptance import Acceptance
from smartprof.planning.sources.base import Source, constant_rate
from smartprof.trees.positional import PositionalAcceptance


def read_length(text: str) -> Acceptance:
    """ACCEPTED/DRAFTED: draft tokens accepted per round, of how many drafted on one branch."""
    length, _, drafted = text.partition("/")
    try:
        tokens, count = float(length), int(drafted)
    except ValueError:
        raise _refusal(text) from None
    if not (count >= 1 and 0 <= tokens <= count):  # NaN is refused as well
        raise _refusal(text)
    rate = constant_rate(tokens, count)
    return Acceptance(
        PositionalAcceptance(((rate,),)),
        f"accepted length {tokens:g} of {count} drafted, read as one rate {rate:.3f} at every "
        "depth",
        deepest=count,
    )


def _refusal(text: str) -> InputError:
    return InputError(
        f"length:{text}: expected ACCEPTED/DRAFTED such as length:2.4/5, the draft tokens accepted "
        "per round, at most those drafted; vLLM and SGLang count the target's own token too: "
        "subtract 1"
    )


LENGTH = Source(
    "length",
    "2.4/5",
    "draft tokens accepted per round, of how many drafted; read as one rate at every depth",
    read_length,
)

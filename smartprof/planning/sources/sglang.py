"""The JSON lines that SGLang's `bench_speculative.py` writes.

Each line has `steps`, `topk` and `acc_length`: tokens per round with the target's own. With topk 1
a draft of K steps is a chain, so that::

    acc_length(K) - 1 = sum over d = 1 ... K of the probability that d tokens are accepted

and lines of several step counts tell the acceptance between them; where they skip depths, one rate
is read for all depths of a gap. Lines with topk above 1 do not tell ranks apart.
"""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from smartprof.errors import InputError
from smartprof.planning.acceptance import Acceptance
from smartprof.planning.sources.base import Source, constant_rate, read_text
from smartprof.trees.positional import PositionalAcceptance

WANTED = "lines of SGLang's bench_speculative.py"


def read_sglang(text: str) -> Acceptance:
    """From a file of such lines; those of equal steps, at several batch sizes, are averaged."""
    path = Path(text)
    lengths: defaultdict[int, list[float]] = defaultdict(list)
    left_out = 0
    for number, line in enumerate(read_text(path, WANTED).splitlines(), 1):
        if not line.strip():
            continue
        steps, topk, length = _record(line, path, number)
        if steps and topk == 1:
            lengths[steps].append(length)
        left_out += steps > 0 and topk != 1
    if not lengths:
        raise InputError(
            f"{path}: expected {WANTED} with topk 1 and steps from 1, got none: run it with "
            "--topk 1 --steps 1 2 3 4 5"
        )
    remark = f"lines with topk above 1 do not tell ranks apart: {left_out} left out"
    return Acceptance(
        PositionalAcceptance(_rates({x: fmean(lengths[x]) for x in sorted(lengths)}, path)),
        f"accepted lengths of SGLang's bench_speculative.py in {path.name}, steps "
        f"{', '.join(map(str, sorted(lengths)))}",
        deepest=max(lengths),
        remarks=(remark,) if left_out else (),
    )


def _rates(lengths: dict[int, float], path: Path) -> tuple[tuple[float], ...]:
    """A conditional rate per depth, from mean tokens per round by steps, ascending."""
    rates: list[tuple[float]] = []
    reached = 1.0  # probability that all tokens so far are accepted
    for (steps, before), (more, after) in pairwise({0: 1.0, **lengths}.items()):
        gained, depths = after - before, more - steps
        if not 0 <= gained <= reached * depths + 1e-9:
            raise InputError(
                f"{path}: expected acc_length to rise from {steps} to {more} steps by 0 to "
                f"{reached * depths:.3f}, got {before:.3f} and then {after:.3f}: run it with more "
                "prompts"
            )
        rate = constant_rate(min(gained / reached, depths), depths) if reached > 0 else 0.0
        rates += [(rate,)] * depths
        reached *= rate**depths
    return tuple(rates)


def _record(line: str, path: Path, number: int) -> tuple[int, int, float]:
    """Steps, topk and accepted length of a line."""
    try:
        value = json.loads(line)
        steps, topk, length = int(value["steps"]), int(value["topk"]), float(value["acc_length"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(
            f"{path}, line {number}: expected JSON with steps, topk and acc_length as in {WANTED}, "
            f"got {line.strip()[:60]!r}"
        ) from None
    if not length >= 1:
        raise InputError(
            f"{path}, line {number}: expected acc_length from 1, the target's own token, got "
            f"{length:g}"
        )
    return steps, topk, length


SGLANG = Source("sglang", "FILE", f"{WANTED}, those with topk 1", read_sglang)

"""vLLM's counters of speculative decoding: drafts, and accepted tokens by position.

Metrics of vLLM 0.33 as its `/metrics` prints them, since the server's start::

    vllm:spec_decode_num_drafts_total{...}
    vllm:spec_decode_num_draft_tokens_total{...}
    vllm:spec_decode_num_accepted_tokens_per_pos_total{...,position="0"}

The counts of a position are unconditional: every draft accepted that far counts. The rate at depth
d is therefore accepted[d] / accepted[d - 1], and of the first position accepted[1] / drafts.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from smartprof.errors import InputError
from smartprof.planning.acceptance import Acceptance
from smartprof.planning.sources.base import Source, read_text

PREFIX = "vllm:spec_decode_num_"
LINE = re.compile(
    r"vllm:spec_decode_num_(?P<name>\w+?)(?:_total)?(?:\{(?P<labels>.*)\})?\s+"
    r"(?P<value>[^\s]+)(?:\s+\d+)?"
)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
JSON_FORM = '{"num_drafts": 1000, "num_accepted_tokens_per_pos": [700, 450]}'


@dataclass(frozen=True)
class Counters:
    """Drafts, accepted tokens by position, and drafted tokens where that is known."""

    drafts: int
    accepted: tuple[int, ...]
    drafted: int | None = None


def read_vllm(text: str) -> Acceptance:
    """From a file of Prometheus text, or of JSON with the two counters."""
    path = Path(text)
    content = read_text(path, "vLLM's counters")
    if content.lstrip().startswith("{"):
        return acceptance_of(_from_json(content, path), path)
    return acceptance_of(_from_metrics(content, path), path)


def acceptance_of(counters: Counters, path: Path) -> Acceptance:
    """Conditional rates and their trials. Raises InputError for counts that contradict."""
    tried = (counters.drafts, *counters.accepted)
    for position, (before, after) in enumerate(pairwise(tried)):
        if after > before:
            what = "drafts" if position == 0 else f"accepted at position {position - 1}"
            raise InputError(
                f"{path}: expected counts that do not rise with position, got {after} accepted at "
                f"position {position} after {before} {what}: take all counters in one moment"
            )
    return Acceptance.counted(
        [(x,) for x in counters.accepted],
        tried[:-1],
        f"vLLM's counters in {path.name}, {counters.drafts} drafts",
        _remarks(counters),
    )


def _remarks(counters: Counters) -> tuple[str, ...]:
    full = counters.drafts * len(counters.accepted)
    if counters.drafted is None or counters.drafted == full:
        return ()
    return (
        f"{counters.drafts} drafts of {len(counters.accepted)} positions had "
        f"{counters.drafted} tokens instead of {full}: not all positions were drafted each time, "
        "so acceptance deep in the draft is understated",
    )


def _from_json(content: str, path: Path) -> Counters:
    try:
        value = json.loads(content)
        return Counters(
            _count(value["num_drafts"]),
            tuple(_count(x) for x in value["num_accepted_tokens_per_pos"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON such as {JSON_FORM}, got: {error}") from None


def _from_metrics(content: str, path: Path) -> Counters:
    """Summed over the server's engines; of one model."""
    totals: defaultdict[str, int] = defaultdict(int)
    positions: defaultdict[int, int] = defaultdict(int)
    models = set()
    for line in content.splitlines():
        found = LINE.fullmatch(line.strip())
        if found is None or found["name"].endswith("_created"):
            continue
        labels = dict(LABEL.findall(found["labels"] or ""))
        models.add(labels.get("model_name", ""))
        try:
            count = _count(float(found["value"]))
            if found["name"] == "accepted_tokens_per_pos":
                positions[int(labels["position"])] += count
            else:
                totals[found["name"]] += count
        except (ValueError, KeyError):
            raise InputError(f"{path}: expected a count, got {line.strip()!r}") from None
    if len(models) > 1:
        raise InputError(
            f"{path}: expected the counters of one model, got {', '.join(sorted(models))}: keep "
            "the lines of one"
        )
    if "drafts" not in totals or sorted(positions) != list(range(len(positions))) or not positions:
        raise InputError(
            f"{path}: expected {PREFIX}drafts_total and {PREFIX}accepted_tokens_per_pos_total for "
            "positions 0, 1, ..., got not all: save /metrics of a server that speculates"
        )
    return Counters(
        totals["drafts"],
        tuple(positions[x] for x in sorted(positions)),
        totals.get("draft_tokens"),
    )


def _count(value: Any) -> int:
    """A whole number from 0, whatever it is written as. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"expected a count, got {value!r}")
    if not (math.isfinite(value) and value >= 0 and int(value) == value):
        raise ValueError(f"expected a whole number from 0, got {value!r}")
    return int(value)


VLLM = Source(
    "vllm",
    "FILE",
    f"vLLM's counters: a copy of /metrics, or JSON {JSON_FORM}",
    read_vllm,
)

"""Rounds on disk: one line per round and request, as a compressed npz of plain arrays.

Columns, each of the same length: run (index into the arrays lane_*), round (within the run,
counted rounds only), request (arrival order), context (committed tokens before the round),
tree_size (tokens verified, root included), accepted (draft tokens), committed (tokens),
verify_tokens (of the whole pass, padding included), draft_steps, and seconds, draft_seconds,
verify_seconds, modelled_seconds of the whole round. Per run: lane_policy, lane_drafter, lane_batch,
lane_category, lane_split.

With a recording of trees the file has its arrays as well (`trees.recording_file`). All arrays are
described in docs/trace-format.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smartprof.atomic import write_atomically
from smartprof.decode.run import LaneResult
from smartprof.trees.recording import Recording
from smartprof.trees.recording_file import recording_arrays

PER_REQUEST = {
    "request": "requests",
    "context": "context_lens",
    "tree_size": "tree_size",
    "accepted": "accepted",
    "committed": "committed",
}
PER_ROUND = (
    "verify_tokens",
    "draft_steps",
    "seconds",
    "draft_seconds",
    "verify_seconds",
    "modelled_seconds",
)


def trace_columns(lanes: Sequence[LaneResult]) -> dict[str, NDArray[Any]]:
    """The arrays of a trace, by name."""
    columns: dict[str, list[Any]] = {x: [] for x in ("run", "round", *PER_REQUEST, *PER_ROUND)}
    for run, lane in enumerate(lanes):
        for number, record in enumerate(lane.records):
            rows = len(record.requests)
            columns["run"].append(np.full(rows, run))
            columns["round"].append(np.full(rows, number))
            for name, field in PER_REQUEST.items():
                columns[name].append(getattr(record, field))
            for name in PER_ROUND:
                columns[name].append(np.full(rows, getattr(record, name)))
    arrays = {x: np.concatenate(y) if y else np.zeros(0) for x, y in columns.items()}
    for name in ("policy", "drafter", "batch", "category", "split"):
        arrays[f"lane_{name}"] = np.array([getattr(x, name) for x in lanes])
    return arrays


def write_trace(
    lanes: Sequence[LaneResult], path: Path, recording: Recording | None = None
) -> None:
    """Write a trace, whole or not at all; read it back with ``numpy.load(path)``."""
    content = BytesIO()
    trees = {} if recording is None else recording_arrays(recording)
    np.savez_compressed(content, allow_pickle=False, **trace_columns(lanes), **trees)
    write_atomically(content.getvalue(), path, force=True)

"""Recordings of trees as plain arrays of an npz; docs/trace-format.md says what each one is."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smartprof.errors import InputError
from smartprof.trees.recording import Facts, Recording

FORMAT = 1
FACTS = "recording"  # the array of one JSON text that marks a file as holding trees
ROUNDS = "modelled_seconds"  # an array of every trace, with trees or without

# Field of `Recording` -> name in the file, type in the file.
ARRAYS: dict[str, tuple[str, str]] = {
    "sources": ("source_name", "U"),
    "taken_by_outlook": ("source_taken_by_outlook", "?"),
    "prompt": ("request_prompt", "U"),
    "category": ("request_category", "U"),
    "split": ("request_split", "U"),
    "prompt_tokens": ("request_prompt_tokens", "<i4"),
    "most_new": ("request_most_new", "<i4"),
    "pending": ("request_pending", "<i4"),
    "output_start": ("request_output_start", "<i8"),
    "output": ("output_token", "<i4"),
    "tree_start": ("tree_start", "<i8"),
    "parent": ("node_parent", "<i4"),
    "token": ("node_token", "<i4"),
    "conditional": ("node_conditional", "<f8"),
    "asked": ("node_asked", "?"),
}
DAMAGED = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


def recording_arrays(recording: Recording) -> dict[str, NDArray[Any]]:
    """The arrays of a recording, by name."""
    facts = json.dumps({"format": FORMAT, **asdict(recording.facts)})
    arrays = {FACTS: np.array(facts)}
    for field, (name, kind) in ARRAYS.items():
        arrays[name] = np.asarray(getattr(recording, field), dtype=None if kind == "U" else kind)
    return arrays


def read_recording(path: Path) -> Recording:
    """The recording of a trace. Raises InputError, one line, if the file holds no sound one."""
    arrays = _load(path)
    if FACTS not in arrays:
        what = "rounds alone" if ROUNDS in arrays else "something else"
        raise InputError(
            f"{path}: expected a trace with trees, got one of {what}: record them with "
            "`smartprof decode --trace FILE --trace-width W --trace-depth D`"
        )
    facts = _facts(arrays[FACTS], path)
    missing = ", ".join(name for name, _ in ARRAYS.values() if name not in arrays)
    if missing:
        raise InputError(f"{path}: expected a whole trace, it lacks {missing}: record it again")
    fields: dict[str, Any] = {
        x: _typed(arrays[name], kind, name, path) for x, (name, kind) in ARRAYS.items()
    }
    fields["sources"] = tuple(fields["sources"].tolist())
    recording = Recording(facts=facts, **fields)
    recording.validate(str(path))
    return recording


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("no npz, or one cut short")
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except DAMAGED as error:
        raise InputError(
            f"{path}: expected a trace that `smartprof decode --trace` wrote, got: {error}"
        ) from error


def _facts(array: NDArray[Any], path: Path) -> Facts:
    try:
        values = dict(json.loads(str(array)))
        version = values.pop("format")
        facts = Facts(**values)
        sound = all(isinstance(y, type(getattr(facts, x))) for x, y in values.items())
        numbers = isinstance(facts.width, int) and isinstance(facts.depth, int)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path}: expected facts of a recording, got {error}") from error
    if version != FORMAT:
        raise InputError(f"{path}: expected trace format {FORMAT}, got {version}: record it again")
    if not sound or not numbers:
        raise InputError(f"{path}: expected names and whole numbers as facts: record it again")
    return facts


def _typed(array: NDArray[Any], kind: str, name: str, path: Path) -> NDArray[Any]:
    """With the type that calculations use; InputError for one of another kind."""
    wanted = np.dtype(kind)
    dimensions = 2 if name == "request_pending" else 1
    if array.dtype.kind != wanted.kind or array.ndim != dimensions:
        raise InputError(
            f"{path}: expected {name} as {dimensions}-dimensional {wanted.kind}, got "
            f"{array.ndim}-dimensional {array.dtype}: record it again"
        )
    return array.astype(np.int64) if wanted.kind == "i" else array

"""Reports as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartprof.atomic import write_atomically
from smartprof.decode.sampling import Sampling
from smartprof.errors import SmartprofError

if TYPE_CHECKING:
    from smartprof.report.summary import Run


def runs_report(
    runs: Sequence[Run], device_match: bool, heading: str, sampling: Sampling, stop: Sequence[str]
) -> dict[str, Any]:
    """The contract of `decode --json`: how it was run, and {"runs": [...]}, one per line.

    sampling: its fields by name; temperature 0 is greedy.
    """
    return {
        "device_match": device_match,
        "heading": heading,
        "sampling": asdict(sampling),
        "stop": list(stop),
        "runs": [asdict(x) for x in runs],
    }


def require_writable(path: Path, force: bool) -> None:
    """Raise before any work is done if the file may not be replaced, or its folder not be used."""
    if os.path.lexists(path) and not force:
        raise SmartprofError(f"{path} exists: use --force to replace it, or another name")
    folder = next(x for x in path.absolute().parents if os.path.exists(x))
    if os.path.isdir(path) or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise SmartprofError(
            f"{path}: expected a file in a folder that can be written, got {folder}"
        )


def write_json(value: Any, path: Path) -> None:
    """Write, whole or not at all, what `require_writable` allowed."""
    write_atomically(json.dumps(value, indent=1, allow_nan=False) + "\n", path, force=True)

"""Reports as JSON, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from smartprof.errors import SmartprofError
from smartprof.report.summary import Run


def runs_report(runs: Sequence[Run], device_match: bool, heading: str) -> dict[str, Any]:
    """The contract of `decode --json`: {"device_match": bool, "runs": [...]}."""
    return {"device_match": device_match, "heading": heading, "runs": [asdict(x) for x in runs]}


def require_writable(path: Path, force: bool) -> None:
    """Raise before any work is done if the file exists already and may not be replaced."""
    if path.exists() and not force:
        raise SmartprofError(f"{path} exists: use --force to replace it, or another name")


def write_json(value: Any, path: Path) -> None:
    """Write through a temporary file in the same folder, so that a failure leaves no half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SmartprofError(
            f"{path}: cannot write the report ({error.strerror}): free some space or choose "
            "another file"
        ) from error

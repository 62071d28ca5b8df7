"""Reads the JSON files of a model directory, with one-line errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from smartprof.errors import ModelError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; ModelError if the file is missing or holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing: expected a Hugging Face model directory") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def read_optional_json(path: Path) -> dict[str, Any]:
    """Like `read_json`; an empty object if there is no such file."""
    return read_json(path) if path.exists() else {}

"""The default model for tests: fetched when absent, because a skipped test proves nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from smartprof.models.fetch import SMOLLM2, fetch


@cache
def default_model_dir() -> Path:
    """Directory of SmolLM2-135M-Instruct in the user's cache."""
    return fetch(SMOLLM2)

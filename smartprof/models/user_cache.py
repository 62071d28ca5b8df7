"""Where this program keeps what it can obtain again: fetched models, kernels that were measured."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "SMARTPROF_CACHE"


def cache_dir() -> Path:
    """The user's cache of this program; the environment variable SMARTPROF_CACHE overrides it."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override) if override else Path(platformdirs.user_cache_dir("smartprof"))

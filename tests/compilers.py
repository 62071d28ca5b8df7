from __future__ import annotations

import os

import pytest

from smartprof.models.panels import load_panels

REQUIRED = "SMARTPROF_REQUIRE_CXX"  # set where compilers are there, as in CI
needs_compiler = pytest.mark.skipif(
    load_panels() is None and not os.environ.get(REQUIRED), reason="no C compiler"
)

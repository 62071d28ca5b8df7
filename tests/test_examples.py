"""The examples do what they say."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

EXAMPLE = Path(__file__).parents[1] / "examples" / "serving_loop.py"


def loop() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serving_loop", EXAMPLE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_smart_waits_less_than_plain_decoding_under_light_and_heavy_load() -> None:
    serve = loop().serve
    for load in (0.5, 4.0):
        assert serve("smart", load, 30.0) < 0.97 * serve("plain", load, 30.0)


def test_a_drafter_that_is_never_right_costs_smart_next_to_nothing() -> None:
    module = loop()
    module.RATES = module.RATES * 1e-9
    assert module.serve("smart", 2.0, 20.0) < 1.03 * module.serve("plain", 2.0, 20.0)
    assert module.serve("chain:k=8", 2.0, 20.0) > 1.1 * module.serve("plain", 2.0, 20.0)


def test_the_loop_runs_as_it_stands_and_without_torch() -> None:
    code = f"import runpy, sys; runpy.run_path({str(EXAMPLE)!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

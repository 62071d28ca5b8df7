from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "smartprof"

# A room may import itself and those before it.
ROOMS = (
    ("errors", "format", "stats"),
    ("device",),
    ("profile", "models"),
    ("trees",),
    ("policies",),
    ("drafters",),
    ("decode",),
    ("calibrate", "simulate"),
    ("report",),
    ("commands", "simulate_command"),
    ("cli",),
)
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}

WITHOUT_TORCH = (
    "smartprof",
    "smartprof.profile.cost",
    "smartprof.profile.files",
    "smartprof.profile.keys",
    "smartprof.trees.packed",
    "smartprof.policies.table",
    "smartprof.drafters.ngram",
    "smartprof.models.shapes",
    "smartprof.calibrate.plan",
    "smartprof.decode.sampling",
    "smartprof.decode.rounds",
    "smartprof.decode.record",
    "smartprof.trees.recording_file",
    "smartprof.simulate.run",
    "smartprof.simulate_command",
    "smartprof.calibrate.fit",
    "smartprof.report.tables",
    "smartprof.report.plots",
    "smartprof.report.queries",
    "smartprof.cli",
)


def _imported(tree: ast.Module) -> set[str]:
    """Full names of the project's modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{x.name}" for x in node.names}
        elif isinstance(node, ast.Import):
            names |= {x.name for x in node.names}
    return {x for x in names if x.startswith("smartprof.")}


def _violations(source: str, room: str) -> list[str]:
    found = []
    for name in _imported(ast.parse(source)):
        other = name.split(".")[1]
        if other in RANK and other != room and RANK[other] >= RANK[room]:
            found.append(f"{room} imports {name}")
    return found


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_imports_point_one_way() -> None:
    files = [x for x in PACKAGE.rglob("*.py") if x != PACKAGE / "__init__.py"]
    assert {_room(x) for x in files} == set(RANK)
    assert [y for x in files for y in _violations(x.read_text(), _room(x))] == []


def test_a_room_that_imports_a_higher_one_is_caught() -> None:
    assert _violations("from smartprof.decode.rounds import Decoder", "policies")
    assert _violations("def f():\n    import smartprof.models.weights", "trees") == []
    assert _violations("import smartprof.models.weights", "profile")


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_reading_a_profile_and_deciding_by_it_needs_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

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
    ("atomic", "console", "csv_files", "locks"),
    ("device",),
    ("here",),
    ("profile", "models"),
    ("trees",),
    ("policies",),
    ("planning",),
    ("exports",),
    ("drafters",),
    ("decode",),
    ("calibrate", "simulate"),
    ("estimate",),
    ("report",),
    ("check_command", "commands", "simulate_command"),
    ("cli_estimate", "cli_plan", "cli_profiles", "cli_simulate"),
    ("cli",),
)
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}

WITHOUT_TORCH = (
    "smartprof",
    "smartprof.profile.cost",
    "smartprof.profile.files",
    "smartprof.profile.keys",
    "smartprof.profile.acceptance",
    "smartprof.trees.packed",
    "smartprof.trees.reliability",
    "smartprof.drafters.calibrated",
    "smartprof.policies.table",
    "smartprof.drafters.ngram",
    "smartprof.models.shapes",
    "smartprof.calibrate.plan",
    "smartprof.calibrate.memory",
    "smartprof.decode.sampling",
    "smartprof.decode.rounds",
    "smartprof.decode.record",
    "smartprof.trees.recording_file",
    "smartprof.simulate.run",
    "smartprof.simulate_command",
    "smartprof.calibrate.fit",
    "smartprof.calibrate.adaptive",
    "smartprof.calibrate.measure",
    "smartprof.calibrate.forecast",
    "smartprof.calibrate.quality",
    "smartprof.planning.regret",
    "smartprof.report.quality",
    "smartprof.calibrate.imported",
    "smartprof.calibrate.subject",
    "smartprof.report.tables",
    "smartprof.report.plots",
    "smartprof.report.queries",
    "smartprof.report.json_files",
    "smartprof.report.plan_files",
    "smartprof.report.plan_tables",
    "smartprof.here",
    "smartprof.profile.checks",
    "smartprof.calibrate.spots",
    "smartprof.check_command",
    "smartprof.report.checks",
    "smartprof.report.comparison",
    "smartprof.planning.plan",
    "smartprof.planning.decisions",
    "smartprof.planning.sources.table",
    "smartprof.exports.table",
    "smartprof.estimate.build",
    "smartprof.estimate.against",
    "smartprof.report.estimate_tables",
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


READING = """
import contextlib, io, sys
from smartprof import cli
arguments = {arguments!r}
sys.argv = ["smartprof", *arguments]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    cli.run()
print(*{heavy!r} & set(sys.modules))
"""
HEAVY = {"torch", "transformers", "scipy", "pandas", "matplotlib", "tokenizers"}
GIVEN = (
    *("--profile", "xeon-2t-smollm2.json", "--drafter", "ngram"),
    *("--acceptance", "synthetic:0.6+0.1"),
)


@pytest.mark.parametrize("command", ["plan", "export"])
def test_planning_loads_nothing_heavy(command: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    own = (
        ["plan", "--json", str(file)]
        if command == "plan"
        else ["export", "vllm", "--out", str(file)]
    )
    code = READING.format(arguments=[*own, *GIVEN], heavy=HEAVY)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.split() == [], run.stdout
    assert file.is_file(), run.stderr  # it did its work


def test_as_a_library_a_profile_and_a_policy_need_no_torch() -> None:
    code = """
import sys
from smartprof import CostModel, find_profile, load_profile, make_policy
assert make_policy("smart").name == "smart"
profile = load_profile(find_profile("xeon-2t-smollm2.json"))
assert CostModel(profile, "ngram").verify(4, 22, 300.0) > 0
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


WITHOUT = """
import sys
sys.modules["torch"] = None  # importing it fails, as where it is not installed
from smartprof import cli
sys.argv = ["smartprof", *{arguments!r}]
cli.run()
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "xeon-2t-smollm2.json"],
        ["predict", "xeon-2t-smollm2.json", "--batch", "4", "--tokens", "22", "--context", "300"],
        ["check", "xeon-2t-smollm2.json", "--gpu", "none", "--target", "shape:SmolLM2-135M"],
        ["compare", "xeon-2t-smollm2.json", "epyc-2t-smollm2.json"],
        ["plan", *GIVEN],
        ["plan", *GIVEN, "--explain", "2", "64"],
    ],
    ids=lambda x: x[0],
)
def test_commands_that_read_a_profile_work_where_torch_is_not_installed(
    arguments: list[str],
) -> None:
    code = WITHOUT.format(arguments=arguments)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout

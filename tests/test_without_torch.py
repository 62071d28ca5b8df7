"""From a profile to settings and judgements where torch is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "confident_policy.py"

# Importing torch fails as where there is none, whoever asks and however often.
WITHOUT = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
"""
RUN = WITHOUT + "from smartprof import cli; sys.argv = ['smartprof', *sys.argv[1:]]; cli.run()"
PROFILE = ("--profile", "xeon-2t-smollm2.json")
GIVEN = (*PROFILE, "--drafter", "ngram", "--acceptance", "synthetic:0.6+0.1/0.5")


def without_torch(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    given = [sys.executable, "-c", RUN, *map(str, arguments)]
    return subprocess.run(given, capture_output=True, text=True)


COMMANDS: dict[str, tuple[object, ...]] = {
    "version": ("--version",),
    "policies": ("policies",),
    "show": ("show", "epyc-2t-smollm2.json", "--plot", "surfaces.png"),
    "predict": ("predict", "epyc-2t-smollm2.json", "--batch", 2, "--tokens", 9, "--context", 64),
    "plan": ("plan", *GIVEN, "--family", "tree", "--json", "plan.json", "--plot", "plan.png"),
    "simulate": (
        *("simulate", *PROFILE, "--drafter", "hybrid", "--acceptance", "synthetic:0.6"),
        *("--policy", f"chain:k=2,smart,{EXAMPLE}"),
        *("--batch", 2, "--json", "simulated.json", "--plot", "simulated.png"),
    ),
    "check": ("check", "epyc-2t-smollm2.json", "--gpu", "none"),
    "compare": ("compare", "xeon-2t-smollm2.json", "epyc-2t-smollm2.json", "--json", "both.json"),
    "export": ("export", "vllm", *GIVEN, "--out", "vllm.json"),
    "estimate": ("estimate", "--device", "l40s", "--out", "estimated.json"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works_where_torch_is_not_installed(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = without_torch(*COMMANDS[command])
    assert run.returncode == 0, run.stderr
    assert run.stdout
    wanted = {x for x in COMMANDS[command] if str(x).endswith((".json", ".png"))}
    written = {x.name for x in tmp_path.iterdir()}
    assert written == wanted - {"epyc-2t-smollm2.json", "xeon-2t-smollm2.json"}


@pytest.mark.parametrize("command", ["device", "calibrate", "decode"])
def test_a_command_that_needs_torch_says_so_in_one_line(command: str, tmp_path: Path) -> None:
    given = {"calibrate": ("--out", tmp_path / "p.json"), "decode": PROFILE}.get(command, ())
    run = without_torch(command, *given)
    assert run.returncode == 1
    assert "expected torch, which is not installed" in run.stderr
    assert run.stderr.count("\n") == 1 and not list(tmp_path.iterdir())


def test_from_profile_to_an_engines_file_as_a_library(tmp_path: Path) -> None:
    """What an engine in Python would do, without the command and without torch."""
    code = (
        WITHOUT
        + """
import json
from pathlib import Path
from smartprof import find_profile, load_profile
from smartprof.exports.base import ExportRequest
from smartprof.exports.table import find_exporter
from smartprof.planning.inputs import open_costs
from smartprof.planning.sources.table import read_acceptance

costs = open_costs(load_profile(find_profile("xeon-2t-smollm2.json")), "ngram")
rates = read_acceptance("synthetic:0.6/0.5")
request = ExportRequest(costs, rates, 64.0, 8, Path("out"))
print(find_exporter("vllm").export(request).content)
"""
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    ranges = json.loads(run.stdout)["num_speculative_tokens_per_batch_size"]
    assert (ranges[0][0], ranges[-1][1]) == (1, 8)


def test_what_needs_torch_would_be_noticed() -> None:
    run = without_torch("decode", *PROFILE, "--target", "shape:tiny-llama")
    assert run.returncode != 0
    assert "expected torch, which is not installed" in run.stderr

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from smartprof.planning.decisions import CURVES
from smartprof.planning.regret import estimated_regret
from smartprof.profile.files import save_profile
from tests.benchmark_scripts import load_benchmark
from tests.profiles import bent, make_profile


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_benchmark("regret")


def steep(batch: int, size: int, context: int) -> float:
    """Like `bent`, but every token costs: long drafts do not pay."""
    return bent(batch, size, context) + 0.01 * size


def test_a_profile_loses_nothing_against_itself(benchmark: ModuleType) -> None:
    profile = make_profile()
    found = benchmark.judged(profile, profile, CURVES)
    assert len(found) == 3 * len(CURVES) * 4
    lines = benchmark.report(found, estimated_regret(profile))
    assert lines[0] == (
        "all: regret mean 0.00 %, p95 0.00 %, max 0.00 % over 36 decisions; 0 decisions differ"
    )
    assert len(lines) == 1 + 4 + 2
    assert lines[-2].startswith("its own estimate: mean 0.00 %")
    assert lines[-1].startswith("within the bars")


def test_a_profile_that_misses_a_slope_loses_and_the_worst_decision_is_told(
    benchmark: ModuleType,
) -> None:
    found = benchmark.judged(make_profile(), make_profile(steep), CURVES)
    lines = benchmark.report(found, None)
    worst = max(x.cost_percent for x in found)
    assert worst > benchmark.BAR_MAX_PCT
    assert lines[-1].startswith("ABOVE the bars")
    assert lines[5].startswith(f"  {worst:.2f} %: batch ")


def test_the_command_reads_two_files_and_warns_where_their_keys_differ(
    benchmark: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    profile = make_profile(half_width=0.01)
    software = profile.key.software.model_copy(update={"torch": "9.9"})
    other = profile.model_copy(
        update={"key": profile.key.model_copy(update={"software": software})}
    )
    save_profile(profile, tmp_path / "quick.json")
    save_profile(other, tmp_path / "truth.json")
    paths = ["--profile", str(tmp_path / "quick.json"), "--truth", str(tmp_path / "truth.json")]
    monkeypatch.setattr(sys, "argv", ["regret.py", *paths])
    benchmark.main()
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("warning: software torch: ")
    assert rest[-1].startswith("within the bars")


def test_another_truth_gives_the_floor(
    benchmark: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = {"quick": make_profile(), "truth": make_profile(steep), "again": make_profile(steep)}
    command = ["regret.py"]
    for name, profile in made.items():
        save_profile(profile, tmp_path / f"{name}.json")
        command += [f"--{'profile' if name == 'quick' else name}", str(tmp_path / f"{name}.json")]
    monkeypatch.setattr(sys, "argv", command)
    benchmark.main()
    every, *_, verdict, floor, beyond = capsys.readouterr().out.splitlines()
    assert verdict.startswith("ABOVE the bars")
    assert floor == "floor: regret mean 0.00 %, p95 0.00 %, max 0.00 % over 36 decisions"
    assert beyond.startswith("beyond the floor: regret mean ")
    assert beyond.split(":")[1] == every.split(":")[1].split(";")[0]


def test_what_the_floor_loses_too_is_not_lost_beyond_it(benchmark: ModuleType) -> None:
    found = benchmark.judged(make_profile(), make_profile(steep), CURVES)
    assert benchmark.beyond(found, found).tolist() == [0.0] * len(found)
    elsewhere = [x for x in found if x.batch == 1]
    assert len(benchmark.beyond(found, elsewhere)) == len(elsewhere)

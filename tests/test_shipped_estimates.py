"""The shipped analytic profiles and the pages made from shipped profiles are up to date."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
from pathlib import Path

import pytest
import write_gpu_plans
import write_profile_table

from smartprof.profile.cost import CostModel
from smartprof.profile.files import load_profile
from tests.test_cli import smartprof

FOLDER = Path(__file__).parents[1] / "profiles"
ANALYTIC = ("a100", "l40s", "h200")


@pytest.mark.parametrize("name", ANALYTIC)
def test_a_shipped_estimate_is_what_its_own_command_writes_today(name: str, tmp_path: Path) -> None:
    shipped = load_profile(FOLDER / f"{name}.json")
    command = shlex.split(shipped.provenance.command)
    assert command[-2:] == ["--out", f"profiles/{name}.json"]
    assert smartprof(*command[1:-1], tmp_path / "p.json").code == 0
    again = load_profile(tmp_path / "p.json")
    differing = ("created", "checksum", "provenance")
    assert shipped.model_dump(exclude=set(differing)) == again.model_dump(exclude=set(differing))
    assert shipped.provenance.note == again.provenance.note


@pytest.mark.parametrize("name", ANALYTIC)
def test_a_shipped_estimate_covers_large_batches_and_says_what_it_is(name: str) -> None:
    shipped = load_profile(FOLDER / f"{name}.json")
    assert shipped.provenance.kind == "analytic"
    domain = shipped.verify.domain
    assert domain.batch is not None and domain.batch[1] >= 64
    assert domain.size[1] >= 512
    assert "nothing measured" in shipped.provenance.note


PASS = ("--batch", 1, "--tokens", 8, "--context", 128)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "a100.json"], "analytic"),
        (["show", "a100.json"], "ANALYTIC: nothing here was measured"),
        (
            ["show", "a100.json"],
            "warning: an estimate from a data sheet: nothing here was",
        ),
        (
            ["predict", "a100.json", *PASS],
            "analytic profile",
        ),
        (["plan", "--profile", "a100.json", "--acceptance", "0.7"], "an ANALYTIC profile of"),
        (
            ["plan", "--profile", "a100.json", "--acceptance", "0.7", "--explain", 64, 128],
            "in which nothing was measured",
        ),
    ],
)
def test_whatever_prints_an_estimate_says_so(arguments: list[object], said: str) -> None:
    found = smartprof(*arguments, *(["--drafter", "eagle3"] if arguments[0] == "predict" else []))
    assert found.code == 0, found
    assert said in found.out


@pytest.mark.parametrize("name", ANALYTIC)
def test_the_reader_to_copy_reads_a_profile_without_anchors(name: str) -> None:
    path = FOLDER / f"{name}.json"
    spec = importlib.util.spec_from_file_location("read_profile", FOLDER / "read_profile.py")
    assert spec is not None and spec.loader is not None
    reader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reader)
    found = reader.Profile(path.read_text(encoding="utf-8"))
    costs = CostModel(load_profile(path), "eagle3")
    for batch, size, context in ((1, 1, 128), (7, 100, 700), (64, 512, 2048)):
        seconds, tier = found.seconds("verify", batch=batch, size=size, context=context)
        assert tier == "interpolated"
        assert seconds == pytest.approx(costs.predict("verify", batch, size, context).seconds)


def test_a_plan_by_estimates_states_no_interval_that_nobody_knows() -> None:
    plan = ("plan", "--profile", "a100.json", "--acceptance", "0.7", "--batch", 4, "--context", 128)
    line = next(x for x in smartprof(*plan).out.splitlines() if x.split()[:2] == ["128", "4"])
    assert line.split()[-2] == "-"
    assert "95 %" not in smartprof(*plan, "--explain", 4, 128).out
    measured = ("--profile", "xeon-2t-smollm2.json", "--drafter", "ngram")
    assert "95 %" in smartprof(*plan[:1], *measured, *plan[3:5], "--explain", 4, 64).out


def test_the_table_of_shipped_profiles_is_what_the_files_say() -> None:
    page = write_profile_table.TARGET.read_text(encoding="utf-8")
    assert page == write_profile_table.with_table(page), "run `make docs`"


def test_the_table_follows_the_files_and_marks_estimates(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "a100.json", tmp_path / "mine.json")
    page = f"{write_profile_table.BEGIN}\nold\n{write_profile_table.END}\nafter\n"
    found = write_profile_table.with_table(page, tmp_path)
    assert "| [`mine.json`](mine.json) | NVIDIA A100-SXM4-80GB |" in found
    assert "**analytic**: estimated from a data sheet" in found
    assert "old" not in found and found.endswith("\nafter\n")
    with pytest.raises(ValueError, match="expected the lines"):
        write_profile_table.with_table("# a page without marks")


def test_the_plans_for_gpus_are_what_the_profiles_say() -> None:
    page = write_gpu_plans.TARGET.read_text(encoding="utf-8")
    assert page == write_gpu_plans.page(), "run `make docs`"

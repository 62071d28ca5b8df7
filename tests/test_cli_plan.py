"""`plan` and `export` as a user meets them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from smartprof.exports.table import EXPORTERS
from smartprof.profile.canonical import checksum
from smartprof.profile.files import save_profile
from tests.profiles import make_profile
from tests.test_cli import refused, smartprof

SHIPPED = ("--profile", "xeon-2t-smollm2.json", "--drafter", "ngram")
RATES = ("--acceptance", "0.6+0.1/0.5")


def test_plan_prints_a_line_for_each_place_and_where_speculation_stops_paying() -> None:
    result = smartprof("plan", *SHIPPED, "--acceptance", "synthetic:0.01", "--batch", "1,2,16")
    assert result.code == 0, result
    lines = result.out.splitlines()
    assert "SYNTHETIC acceptance" in lines[0]
    assert "with ngram on Intel(R) Xeon(R) Processor" in lines[0]
    cells = [x.split() for x in lines if re.match(r" +\d+ +\d+ ", x)]
    assert [x[:2] for x in cells] == [[x, y] for x in ("64", "1024") for y in ("1", "2", "16")]
    sentences = [x for x in lines if x.startswith("context 64:") or x.startswith("context 1024:")]
    assert len(sentences) == 2
    assert all("plain decoding is best" in x for x in sentences)  # 1 in 100 pays nowhere


def test_plan_writes_what_it_prints(tmp_path: Path) -> None:
    report, figure = tmp_path / "plan.json", tmp_path / "plan.png"
    given = ("--batch", "1,4", "--context", "64,300", "--family", "tree")
    result = smartprof("plan", *SHIPPED, *RATES, *given, "--json", report, "--plot", figure)
    assert result.code == 0, result
    value = json.loads(report.read_text())
    assert value["acceptance"]["synthetic"] is False
    assert value["acceptance"]["rates"] == [[0.6, 0.1], [0.5]]
    assert value["profile"]["checksum"].startswith("sha256:")
    assert [(x["batch"], x["context"]) for x in value["cells"]] == [
        (1, 64.0),
        (4, 64.0),
        (1, 300.0),
        (4, 300.0),
    ]
    for cell in value["cells"]:
        seconds = cell["seconds"]
        parts = sum(y for x, y in seconds.items() if x != "total")
        assert seconds["total"] == pytest.approx(parts)
        speedup = cell["tokens_per_round"] * cell["plain_seconds"] / seconds["total"]
        assert cell["speedup"] == pytest.approx(speedup)
        assert cell["speedup_low"] <= cell["speedup"] <= cell["speedup_high"]
        assert cell["runner_up"]["speedup"] <= cell["speedup"] == cell["fastest"]["speedup"]
        assert f"{cell['speedup']:.2f}x" in result.out
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_explain_says_what_a_round_is_spent_on_and_what_came_second() -> None:
    result = smartprof("plan", *SHIPPED, *RATES, "--explain", 2, 300)
    assert result.code == 0, result
    assert "batch 2, context 300: chain" in result.out
    assert len(re.findall(r"catch-up .* \+ draft steps .* \+ verify \d+ tokens .* = ", result.out))
    assert re.search(r"runner-up: (chain \d|off), \d+\.\d % slower", result.out)


def test_export_writes_the_file_and_prints_the_command_that_consumes_it(tmp_path: Path) -> None:
    file = tmp_path / "with blank.json"
    result = smartprof("export", "vllm", *SHIPPED, *RATES, "--out", file, "--target", "t")
    assert result.code == 0, result
    command, *remarks = result.out.splitlines()
    assert command.startswith("vllm serve t --max-num-seqs 16 --speculative-config")
    assert f"'{file}'" in command
    assert all(x.startswith("- ") for x in remarks)
    assert json.loads(file.read_text())["method"] == "ngram"
    assert "exists" in refused(tmp_path, "export", "vllm", *SHIPPED, *RATES, "--out", file)
    assert smartprof("export", "vllm", *SHIPPED, *RATES, "--out", file, "--force").code == 0


@pytest.mark.parametrize("engine", EXPORTERS)
def test_every_engine_writes_a_file_of_a_profile_that_it_can_use(
    engine: str, tmp_path: Path
) -> None:
    profile = make_profile()
    costs = profile.drafters["ngram"]
    kinds = {x: costs.model_copy(update={"kind": x}) for x in ("lm", "eagle3")}
    path = tmp_path / "p.json"
    save_profile(profile.model_copy(update={"drafters": kinds}), path)
    drafter = "lm" if engine == "transformers" else "eagle3"
    given = ("--profile", path, *RATES, "--drafter", drafter, "--out", tmp_path / "out")
    result = smartprof("export", engine, *given)
    assert result.code == 0, result
    assert str(tmp_path / "out") in result.out
    assert (tmp_path / "out").stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("plan", "--acceptance", "0.5/0.6"), "does not rise with depth"),
        (("plan", "--acceptance", "nobody"), "expected --acceptance as one of"),
        (("plan", *RATES, "--batch", "0"), "expected --batch to be numbers"),
        (("plan", *RATES, "--batch", "65"), "expected batch within"),
        (("plan", *RATES, "--batch", "1000"), "expected a batch of at most 128"),
        (("plan", *RATES, "--context", "9999"), "expected context within"),
        (("plan", *RATES, "--family", "forest"), "expected --family chain (the number"),
        (("plan", *RATES, "--drafter", "lm"), "expected costs of drafter 'lm'"),
        (("plan", *RATES, "--settings", "2", "--min-gain", "0.1"), "got both"),
        (("plan", *RATES, "--explain", "1000", "64"), "expected a batch of at most 128"),
        (("export", "tgi", *RATES, "--out", "new"), "expected an engine of vllm (chain"),
        (("export", "vllm", *RATES, "--out", "new", "--max-batch", "100"), "expected batch within"),
        (("export", "vllm", "--acceptance", "0.0", "--out", "new"), "pays at no batch"),
        (("export", "sglang", *RATES, "--out", "new"), "a drafter of kind eagle3"),
        (("export", "vllm", *RATES, "--out", "new", "--graph-sizes", "x"), "--graph-sizes"),
        (("export", "vllm", "--acceptance", "0.5/0.6", "--out", "new"), "not rise with depth"),
        (("export", "vllm", "--acceptance", "vllm:absent", "--out", "new"), "cannot be read"),
        (("export", "vllm", *RATES, "--out", "new", "--max-batch", "9999"), "expected a batch"),
        (("export", "vllm", *RATES, "--out", "new", "--context", "9999"), "expected context"),
        (("export", "vllm", *RATES, "--out", "new", "--drafter", "lm"), "costs of drafter 'lm'"),
        (
            ("export", "llamacpp", *RATES, "--out", "new", "--batch", "2", "--max-batch", "4"),
            "expected --batch or --max-batch, got both",
        ),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert complaint in refused(tmp_path, arguments[0], *SHIPPED, *arguments[1:])


def test_a_profile_without_a_drafter_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    save_profile(make_profile(drafters=()), path)
    line = refused(tmp_path, "plan", "--profile", path, *RATES)
    assert "expected a profile with draft_step and draft_catchup" in line
    given = ("--profile", path, *RATES, "--out", tmp_path / "new")
    assert refused(tmp_path, "export", "vllm", *given) == line


@pytest.mark.parametrize("quantity", ["verify", "plain_decode", "round_overhead", "draft_step"])
def test_a_profile_without_a_quantity_is_refused(tmp_path: Path, quantity: str) -> None:
    path = tmp_path / "p.json"
    save_profile(make_profile(), path)
    value = json.loads(path.read_text())
    holder = value["drafters"]["ngram"] if quantity == "draft_step" else value
    holder.pop(quantity)
    path.write_text(json.dumps(value | {"checksum": checksum(json.dumps(value))}))
    given = ("--profile", path, *RATES)
    for command in (("plan",), ("export", "vllm", "--out", tmp_path / "new")):
        assert quantity in refused(tmp_path, *command, *given)


def test_a_profile_of_several_drafters_asks_for_one(tmp_path: Path) -> None:
    profile = make_profile()
    costs = profile.drafters["ngram"]
    path = tmp_path / "p.json"
    save_profile(profile.model_copy(update={"drafters": {"a": costs, "b": costs}}), path)
    line = refused(tmp_path, "plan", "--profile", path, *RATES)
    assert "expected --drafter, one of a, b" in line


def test_plan_refuses_to_replace_a_file_or_to_draw_an_unknown_format(tmp_path: Path) -> None:
    there = tmp_path / "there.json"
    there.write_text("mine")
    assert "exists" in refused(tmp_path, "plan", *SHIPPED, *RATES, "--json", there)
    line = refused(tmp_path, "plan", *SHIPPED, *RATES, "--plot", tmp_path / "a.xyz")
    assert "expected an ending of" in line

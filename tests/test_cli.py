"""The command as a user meets it: whole output, exit codes, files left as they were."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from smartprof import __version__, cli, commands, device
from smartprof.calibrate import schedule
from smartprof.calibrate.journal import sole_writer
from smartprof.calibrate.run import journal_path
from smartprof.console import print_table
from smartprof.drafters.table import EXPECTED
from smartprof.models import execution
from smartprof.models.execution import Execution
from smartprof.models.runners import CapturePool
from smartprof.policies.options import list_options
from smartprof.policies.table import POLICIES
from smartprof.profile.canonical import checksum
from smartprof.profile.files import find_profile, load_profile, save_profile
from smartprof.report.tables import verify_table
from tests.profiles import make_profile
from tests.tiny_model import MAX_CONTEXT, byte_tokenizer, write_tiny_model

NOTES = re.compile(
    r"(device cpu|auto took cpu): .*|loaded .* in .* s|an unfinished .*|warning: .*"
    r"|(no --acceptance: |acceptance from ).*"
)
RUN_FIELDS = {
    "policy": str,
    "drafter": str,
    "batch": int,
    "split": str,
    "tokens": int,
    "seconds": float,
    "tokens_per_second": float,
    "speedup": float,
    "speedup_low": float,
    "speedup_high": float,
    "modelled_speedup": float,
    "accepted_per_round": float,
    "tree_size": float,
    "draft_steps": float,
    "share": dict,
    "identical": bool,
    "ties": int,
}
DECODED = (
    "plain",
    "chain:k=3",
    "static:accept=0.6+0.2",
    "eagle2:m=6:depth=3:k=2",
    "cap:budget=12",
    "smart-paper:budget=12",
    "smart",
)
MEASURED = ("seconds", "tokens_per_second", "speedup", "speedup_low", "speedup_high", "share")
PROMPTS = [
    {"prompt": "abc abc abc abc", "category": "code", "split": "held-out"},
    {"prompt": "hello hello hello", "category": "editing", "split": "held-out"},
    {"prompt": "one two one two one", "category": "code", "split": "held-out"},
]


@dataclass(frozen=True)
class Result:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


def smartprof(*arguments: object) -> Result:
    """Run the entry point in this process; a traceback would be raised, not printed."""
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["smartprof", *map(str, arguments)])
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            try:
                cli.run()
            except SystemExit as ended:
                code = int(ended.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(x): x.read_bytes() for x in sorted(folder.rglob("*")) if x.is_file()}


def refused(folder: Path, *arguments: object) -> str:
    """Run a command that must fail: exit code 1, one line of error, no file touched."""
    before = contents(folder)
    result = smartprof(*arguments)
    assert result.code == 1, result
    *notes, line = result.err.splitlines()
    assert all(NOTES.fullmatch(x) for x in notes), notes
    assert line.startswith("smartprof: ")
    assert "Traceback" not in result.err
    assert result.out == ""
    assert contents(folder) == before
    return line.removeprefix("smartprof: ")


@dataclass(frozen=True)
class Place:
    """A folder with a tiny model, its profile, and prompts."""

    folder: Path
    calibration: Result

    @property
    def model(self) -> Path:
        return self.folder / "tiny"

    @property
    def profile(self) -> Path:
        return self.folder / "p.json"

    @property
    def prompts(self) -> Path:
        return self.folder / "prompts.jsonl"

    def decode(self, *options: object, profile: Path | None = None) -> tuple[object, ...]:
        """Arguments of a short decode; later options win over earlier ones."""
        fixed = ("--gpu", "cpu", "--target", self.model, "--profile", profile or self.profile)
        short = ("--max-new-tokens", 12, "--policy", "plain", "--batch", 1)
        return ("decode", *fixed, "--prompts", self.prompts, *short, *options)

    def calibrate(self, out: Path, *options: object) -> tuple[object, ...]:
        """Arguments of the quickest calibration."""
        fixed = ("--gpu", "cpu", "--target", self.model, "--budget", 0, "--out", out)
        return ("calibrate", *fixed, *options)

    def predict(self, *options: object) -> tuple[object, ...]:
        return ("predict", self.profile, *options)


@pytest.fixture(scope="module", autouse=True)
def hurry() -> Iterator[None]:
    """The fewest samples a visit, and no threads that wait for each other on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "physical_cores", lambda: 1)
        patch.setattr(schedule, "VERIFY_SECONDS", 0.0)
        patch.setattr(schedule, "DRAFT_SECONDS", 0.0)
        patch.setattr(schedule, "WARM_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Calibrated once, through the command itself."""
    folder = tmp_path_factory.mktemp("cli")
    place = Place(folder, Result(0, "", ""))
    write_tiny_model(place.model)
    lines = [json.dumps(x) for x in PROMPTS]
    place.prompts.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Place(folder, smartprof(*place.calibrate(place.profile)))


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    """A copy that a test may spoil."""
    shutil.copytree(made.folder, tmp_path / "copy")
    return Place(tmp_path / "copy", made.calibration)


def test_calibrate_writes_a_profile_and_prints_tables_and_the_knee(made: Place) -> None:
    assert made.calibration.code == 0, made.calibration
    assert made.calibration.err.splitlines()[-1] == f"wrote {made.profile}"
    out = made.calibration.out
    assert out.startswith("tiny (float32, eager) on ")
    for batch in (1, 16):
        line = rf"at batch {batch}, context 64: .* nearly free .* knee is at \d+"
        assert re.search(line, out)
    assert "at batch 2, context 64" not in out  # the table has them all
    assert "held-out error of verify passes" in out
    assert not list(made.folder.glob("*.partial*"))
    profile = load_profile(made.profile)
    assert profile.provenance.command.startswith("smartprof calibrate --gpu cpu --target ")
    assert {x.batch for x in profile.verify.curves} == {1, 2, 16}


def test_calibrate_repeat_sweeps_twice_and_tells_how_far_the_two_differ(place: Place) -> None:
    assert "repeatability: not measured" in place.calibration.out
    result = smartprof(*place.calibrate(place.profile, "--repeat", 2, "--force"))
    assert result.code == 0, result
    assert re.search(r"repeatability: two sweeps over \d+ shapes differ by .* \(p95\)", result.out)
    assert "estimated decision regret: " in result.out
    assert load_profile(place.profile).quality.repeatability is not None
    assert not list(place.folder.glob("*.partial*"))


def test_calibrate_json_prints_the_file_and_nothing_else(place: Place) -> None:
    result = smartprof(*place.calibrate(place.profile, "--json", "--force"))
    assert result.code == 0
    assert result.out == place.profile.read_text(encoding="utf-8")
    held_out = json.loads(result.out)["quality"]["held_out"]
    assert {"mean_abs_pct", "median_abs_pct", "p95_abs_pct", "bias_pct"} < set(held_out)


def test_show_prints_what_calibrate_printed_and_draws_the_surfaces(place: Place) -> None:
    plot = place.folder / "surfaces.png"
    result = smartprof("show", place.profile, "--plot", plot)
    assert (result.code, result.err) == (0, "")
    assert result.out == place.calibration.out + f"wrote {plot}\n"
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_show_prints_a_profile_that_holds_no_measured_quality(tmp_path: Path) -> None:
    save_profile(make_profile(), tmp_path / "p.json")
    result = smartprof("show", tmp_path / "p.json")
    assert (result.code, result.err) == (0, "")
    assert "measured 0 shapes" in result.out
    assert "held-out error" not in result.out  # of no passes


def test_predict_asks_for_the_drafter_where_several_are_priced(tmp_path: Path) -> None:
    asked = ("predict", "xeon-2t-smollm2.json", "--quantity", "draft_step", "--batch", 1)
    where = ("--tokens", 1, "--context", 64)
    assert "--drafter, one of hybrid, ngram" in refused(tmp_path, *asked, *where)
    seconds = [smartprof(*asked, *where, "--drafter", x).out for x in ("hybrid", "ngram")]
    assert all(" s (" in x for x in seconds)
    assert seconds[0] != seconds[1]


def test_predict_returns_an_anchor_exactly_and_names_the_tier(place: Place) -> None:
    anchor = load_profile(place.profile).verify.anchors[3]
    where = ("--batch", anchor.batch, "--tokens", anchor.size, "--context", anchor.context)
    result = smartprof(*place.predict(*where))
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(r"\S+ s \(.*\), exact\n", result.out)
    assert float(result.out.split()[0]) == pytest.approx(anchor.seconds, rel=1e-8)
    between = smartprof(*place.predict("--batch", 2, "--tokens", 7, "--context", 64))
    assert between.out.endswith(", interpolated\n")
    beyond = smartprof(*place.predict("--batch", 20, "--tokens", 20, "--context", 64))
    assert beyond.out.endswith(", extrapolated\n")


def test_predict_answers_every_quantity_of_a_csv_in_its_order(place: Place) -> None:
    queries = [
        ("verify", "1", "8", "64", "a"),
        ("plain_decode", "4", "", "64", "b"),
        ("round_overhead", "16", "256", "", "c"),
        ("draft_step", "1", "4", "100.5", "d"),
        ("draft_catchup", "16", "128", "64", "e"),
    ]
    path = place.folder / "q.csv"
    rows = [",".join(x) for x in (("quantity", "batch", "tokens", "context", "name"), *queries)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    result = smartprof(*place.predict("--queries", path))
    assert (result.code, result.err) == (0, "")
    answers = list(csv.DictReader(io.StringIO(result.out)))
    assert [tuple(x.values())[:5] for x in answers] == queries
    assert all(float(x["seconds"]) > 0 for x in answers)
    assert [x["tier"] for x in answers] == ["exact", "exact", "exact", "extrapolated", "exact"]
    one = smartprof(*place.predict("--batch", 1, "--tokens", 8, "--context", 64)).out
    assert float(one.split()[0]) == pytest.approx(float(answers[0]["seconds"]), rel=1e-8)


def test_policies_lists_every_policy_with_its_paper_and_its_options() -> None:
    result = smartprof("policies")
    assert (result.code, result.err) == (0, "")
    rules, _, options = result.out.partition("their options")
    for name, policy in POLICIES.items():
        assert re.search(rf"^ {name} +\S", rules, re.MULTILINE)
        for option in list_options(policy.options_type):
            cells = (name, option.name, option.kind)
            assert re.search(rf"^ {cells[0]} +{cells[1]} +{cells[2]} ", options, re.MULTILINE)
    assert "MSD" in rules
    assert re.search(r"^ chain +k +int +1 to 64 +4 +tokens on the branch", options, re.MULTILINE)


@pytest.fixture(scope="module")
def decoded(made: Place) -> tuple[Result, dict[str, Any], Path]:
    """One run of every policy at two batches, with all of its files."""
    folder = made.folder.parent / "decoded"
    files = ("--json", folder / "r.json", "--plot", folder / "s.png", "--trace", folder / "t.npz")
    policies = ("--policy", ",".join(DECODED), "--batch", "1,4")
    folder.mkdir()
    result = smartprof(*made.decode(*policies, *files, "--text"))
    assert result.code == 0, result
    return result, json.loads((folder / "r.json").read_text(encoding="utf-8")), folder


def test_decode_json_keeps_its_contract_field_by_field(
    decoded: tuple[Result, dict[str, Any], Path],
) -> None:
    report = decoded[1]
    assert report["device_match"] is True
    assert report["sampling"]["temperature"] == 0.0
    assert report["stop"] == []
    places = [(x["policy"], x["batch"], x["category"]) for x in report["runs"]]
    wanted = {
        (policy, batch, category)
        for policy in DECODED
        for batch in (1, 4)
        for category in (None, "code", "editing")
    }
    assert set(places) == wanted
    assert len(places) == len(wanted)
    for run in report["runs"]:
        for name, kind in RUN_FIELDS.items():
            assert type(run[name]) is kind, (name, run[name])
        assert set(run["share"]) == {"draft", "verify", "overhead"}
        assert sum(run["share"].values()) == pytest.approx(1.0)
        assert run["split"] == "held-out"
        assert run["drafter"] == "ngram"
        assert run["tokens_per_second"] == pytest.approx(run["tokens"] / run["seconds"])
        assert run["speedup_low"] <= run["speedup"] <= run["speedup_high"]
        assert run["tree_size"] >= 1.0


def test_every_decoded_output_is_identical_to_plain_decoding(
    decoded: tuple[Result, dict[str, Any], Path],
) -> None:
    assert {x["identical"] for x in decoded[1]["runs"]} == {True}
    assert {x["ties"] for x in decoded[1]["runs"]} == {0}
    drafted = [x for x in decoded[1]["runs"] if x["policy"] != "plain"]
    assert max(x["accepted_per_round"] for x in drafted) > 0


def test_plain_decoding_is_the_reference_of_the_table(
    decoded: tuple[Result, dict[str, Any], Path],
) -> None:
    for run in decoded[1]["runs"]:
        if run["policy"] == "plain":
            ratios = [run[x] for x in ("speedup", "speedup_low", "speedup_high")]
            assert ratios == pytest.approx([1.0] * 3)
            assert run["draft_steps"] == run["accepted_per_round"] == run["share"]["draft"] == 0


def test_decode_says_what_it_measured_and_what_it_wrote(
    decoded: tuple[Result, dict[str, Any], Path],
) -> None:
    result, _, folder = decoded
    assert result.out.lstrip().startswith("measured: tiny on ")
    assert "held-out prompts" in result.out
    assert "p0" not in result.out
    assert result.err.splitlines()[-3:] == [
        f"wrote {folder / x}" for x in ("r.json", "s.png", "t.npz")
    ]
    assert (folder / "s.png").read_bytes().startswith(b"\x89PNG")
    with np.load(folder / "t.npz") as trace:
        lengths = {x: len(trace[x]) for x in trace.files if not x.startswith("lane_")}
    assert len(set(lengths.values())) == 1
    assert min(lengths.values()) > 0


def test_mixed_batches_hold_prompts_of_every_category(place: Place) -> None:
    path = place.folder / "r.json"
    result = smartprof(*place.decode("--mixed", "--batch", 2, "--json", path))
    assert result.code == 0
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    assert [x["category"] for x in runs] == [None, "mixed"]
    assert runs[0]["requests"] == 6  # three times the batch, not that for each category


def test_the_other_policies_include_plain_decoding_even_if_it_is_not_asked_for(
    place: Place,
) -> None:
    path = place.folder / "r.json"
    result = smartprof(*place.decode("--policy", "chain", "--category", "editing", "--json", path))
    assert result.code == 0
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    places = [(x["policy"], x["category"]) for x in runs]
    assert set(places) == {(x, y) for x in ("plain", "chain") for y in (None, "editing")}
    assert len(places) == 4


def renamed(place: Place) -> Path:
    """The profile as if it came from another device, with a checksum that fits."""
    profile = load_profile(place.profile)
    other = profile.key.device.model_copy(update={"name": "Other CPU", "uuid_digest": None})
    key = profile.key.model_copy(update={"device": other})
    path = place.folder / "other.json"
    save_profile(profile.model_copy(update={"key": key}), path)
    return path


def test_a_profile_of_another_device_is_labelled_modelled_and_nothing_is_measured(
    place: Place,
) -> None:
    path = place.folder / "r.json"
    result = smartprof(
        *place.decode("--policy", "chain,smart", "--json", path, profile=renamed(place))
    )
    assert result.code == 0, result
    heading = " ".join(result.out.split())
    assert heading.startswith("modelled: acceptance of tiny")
    assert "on Other CPU from its profile; nothing measured here" in heading
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["device_match"] is False
    for run in report["runs"]:
        assert {x: run[x] for x in MEASURED} == dict.fromkeys(MEASURED)
        assert run["modelled_speedup"] > 0
        assert run["identical"] is True
        assert run["tokens"] > 0


SIMULATED = ("--policy", "chain:k=3,smart,oracle,oracle-static", "--batch", "1,4")
LINE_FIELDS = {"setting", "context", "missing", "speedup", "share", "tree_size", "rounds"}


@pytest.fixture(scope="module")
def traced(made: Place) -> Path:
    """A trace with trees, recorded through the command itself."""
    path = made.folder.parent / "traced.npz"
    size = ("--trace-width", 16, "--trace-depth", 16)
    result = smartprof(*made.decode("--batch", "1,2", "--trace", path, *size))
    assert result.code == 0, result
    assert "recording trees of width 16 and depth 16 at every output position" in result.err
    return path


def test_a_trace_holds_the_rounds_as_before_and_trees_beside_them(
    made: Place, traced: Path
) -> None:
    plain = made.folder.parent / "plain.npz"
    assert smartprof(*made.decode("--batch", "1,2", "--trace", plain)).code == 0
    with np.load(plain) as rounds, np.load(traced) as both:
        assert set(rounds.files) < set(both.files)
        for name in ("run", "round", "request", "committed", "tree_size", "lane_policy"):
            np.testing.assert_array_equal(rounds[name], both[name])
        assert both["request_prompt"].tolist() == ["line-1", "line-2", "line-3"]
        assert len(both["output_token"]) == both["request_output_start"][-1]


def test_simulate_replays_a_trace_and_says_that_nothing_was_timed(
    made: Place, traced: Path, tmp_path: Path
) -> None:
    files = ("--json", tmp_path / "r.json", "--plot", tmp_path / "s.png")
    trace = ("simulate", "--profile", made.profile, "--trace", traced)
    result = smartprof(*trace, *SIMULATED, "--context", "32,64", "--seed", 3, *files)
    assert result.code == 0, result
    assert "simulated: acceptance recorded of tiny with ngram" in " ".join(result.out.split())
    assert "nothing was timed" in " ".join(result.out.split())
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert (report["simulated"], report["seed"], report["trace"]) == (True, 3, str(traced))
    assert report["profile"] == checksum(made.profile.read_text(encoding="utf-8"))
    places = {(x["policy"], x["batch"], x["context"]) for x in report["runs"]}
    assert len(places) == len(report["runs"]) == 5 * 2 * 2
    assert all(set(x) >= LINE_FIELDS for x in report["runs"])
    settings = {x["setting"] for x in report["runs"] if x["policy"] == "oracle-static"}
    assert None not in settings
    assert (tmp_path / "s.png").stat().st_size > 10_000


def test_simulate_without_a_trace_names_its_law(made: Place, tmp_path: Path) -> None:
    law = ("simulate", "--profile", made.profile, "--acceptance", "synthetic:0.6,0.5")
    size = ("--batch", 32, "--context", 64)
    result = smartprof(*law, "--policy", "chain", *size, "--json", tmp_path / "r.json")
    assert result.code == 0, result
    assert "warning: batch 32 is outside of what was measured (1 to 16): seconds" in result.err
    assert "simulated: acceptance synthetic:0.6,0.5, seed 0" in " ".join(result.out.split())
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert (report["acceptance"], report["trace"]) == ("synthetic:0.6,0.5", None)


def test_what_simulate_cannot_do_is_refused_in_one_line(place: Place, traced: Path) -> None:
    simulate = ("simulate", "--profile", place.profile)
    trace = (*simulate, "--trace", traced)
    assert "got neither" in refused(place.folder, *simulate)
    assert "got both" in refused(place.folder, *trace, "--acceptance", "synthetic:0.5")
    line = refused(place.folder, *simulate, "--acceptance", "synthetic:2")
    assert line.startswith("expected --acceptance synthetic:RATE[,CONFIDENCE]")
    assert "no npz" in refused(place.folder, *simulate, "--trace", place.prompts)
    assert "got 65" in refused(place.folder, *trace, "--batch", "1,65")
    assert "a trace names its own" in refused(place.folder, *trace, "--drafter", "ngram")
    lm = ("--acceptance", "synthetic:0.5", "--drafter", "lm")
    assert "expected costs of drafter 'lm'" in refused(place.folder, *simulate, *lm)
    assert "exists: " in refused(place.folder, *trace, "--json", place.prompts)
    assert "to name one of plain" in refused(place.folder, *trace, "--policy", ",")


def test_decode_refuses_ceilings_and_half_of_a_trace_size(place: Place) -> None:
    for name in ("oracle", "oracle-static"):
        assert "only `smartprof simulate` has" in refused(
            place.folder, *place.decode("--policy", name)
        )
    trace = ("--trace", place.folder / "t.npz")
    for options in (("--trace-width", 4), (*trace, "--trace-depth", 4)):
        assert "together" in refused(place.folder, *place.decode(*options))
    wide = (*trace, "--trace-width", 64, "--trace-depth", 9)
    assert "(W + 1) * (D - 1)" in refused(place.folder, *place.decode(*wide))


def test_the_same_command_twice_gives_the_same_tokens(place: Place) -> None:
    shown = [smartprof(*place.decode("--text")).out for _ in range(2)]
    texts = [x[x.index(" line-1, plain, batch 1 ") :] for x in shown]
    assert texts[0] == texts[1]
    assert " line-3, plain, batch 1 " in texts[0]


def test_acceptance_is_learned_saved_and_started_from(place: Place) -> None:
    path, judged = place.folder / "a.json", place.folder / "judged.json"
    options = ("--policy", "eagle2:m=6,chain", "--batch", 2, "--save-acceptance")
    result = smartprof(*place.decode(*options, path))
    assert result.code == 0, result
    said = [x for x in result.err.splitlines() if x.startswith("no --acceptance: ")]
    assert len(said) == 1
    assert result.err.splitlines()[-1] == f"wrote {path}"
    assert "path probabilities of verified nodes" in result.out
    assert re.search(r"^ chain +2 +\d+ +\d+\.\d % +$", result.out, re.MULTILINE)
    learned = json.loads(path.read_text(encoding="utf-8"))
    assert learned["provenance"]["workloads"] == ["prompts.jsonl, held-out"]
    assert learned["sources"]["ngram"]["labels"] > 50
    again = ("--acceptance", path, "--freeze", "--json", place.folder / "r.json")
    result = smartprof(*place.decode(*options, judged, *again))
    assert result.code == 0, result
    assert f"acceptance from {path}: " in result.err
    frozen = json.loads(judged.read_text(encoding="utf-8"))
    for name in ("weights", "precision", "places"):
        assert frozen["sources"]["ngram"][name] == learned["sources"]["ngram"][name]
    runs = json.loads((place.folder / "r.json").read_text(encoding="utf-8"))["runs"]
    for run in runs:
        drafted = run["policy"] != "plain"
        assert (run["verified_nodes"] > 0) == drafted
        assert (run["calibration_error"] is not None) == drafted
        assert run["identical"] is True


def test_acceptance_that_cannot_be_used_or_learned_is_refused(place: Place) -> None:
    path = place.folder / "a.json"
    assert "plain alone" in refused(place.folder, *place.decode("--save-acceptance", path))
    saving = ("--policy", "chain", "--save-acceptance", path)
    assert smartprof(*place.decode(*saving)).code == 0
    assert "exists: use --force" in refused(place.folder, *place.decode(*saving))
    sampled = ("--acceptance", path, "--temperature", 0.7)
    line = refused(place.folder, *place.decode(*sampled))
    assert line.startswith(f"{path}: expected acceptance of temperature 0.7, got 0.0")
    line = refused(place.folder, *place.decode("--acceptance", place.profile))
    assert "expected an acceptance file of schema_version 1, got 2" in line


def test_sampling_is_lossless_repeatable_and_said_in_every_report(place: Place) -> None:
    path = place.folder / "r.json"
    options = ("--temperature", 0.7, "--top-p", 0.9, "--policy", "chain,smart", "--batch", 2)
    shown = {}
    for seed in (3, 3, 4):
        result = smartprof(
            *place.decode(*options, "--seed", seed, "--text", "--force", "--json", path)
        )
        assert result.code == 0, result
        text = result.out[result.out.index(" line-1, plain, batch 2 ") :]
        assert shown.setdefault(seed, text) == text
        report = json.loads(path.read_text(encoding="utf-8"))
        said = f"temperature 0.7, top-p 0.9, seed {seed}"
        assert report["heading"].endswith(f"; {said}")
        assert " ".join(result.out.split()).count(said) == 2  # in the heading and in the note
        assert report["sampling"] == {
            "temperature": 0.7,
            "top_k": None,
            "top_p": 0.9,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "seed": seed,
        }
        assert {x["identical"] for x in report["runs"]} == {True}
    assert shown[3] != shown[4]


def test_texts_end_before_a_stop_string_and_reports_name_it(place: Place) -> None:
    place.prompts.write_text("abc abc abc", encoding="utf-8")
    varied = ("--text", "--temperature", 20, "--max-new-tokens", 40)  # letters among the bytes
    whole = smartprof(*place.decode(*varied)).out.split("\u2500\n")[-1]
    stop = next(x for x in whole[2:] if x.isascii() and x.isalnum())
    path = place.folder / "r.json"
    result = smartprof(*place.decode(*varied, "--stop", stop, "--stop", "no!", "--json", path))
    text = result.out.split("\u2500\n")[-1]
    assert text.rstrip("\n") == whole[: whole.index(stop)].rstrip("\n")
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["stop"] == [stop, "no!"]
    assert report["heading"].endswith(f"; stop at {stop!r}, 'no!'")
    assert report["runs"][0]["tokens"] < 40


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--temperature", -1), "expected temperature to be 0 (greedy) or 0.01 to 100, got -1.0"),
        (("--temperature", 1, "--top-p", 0), "expected top-p to be above 0 and at most 1, got 0.0"),
        (("--temperature", 1, "--top-p", 1.5), "got 1.5"),
        (("--temperature", 1, "--top-k", 0), "expected top-k to be at least 1, got 0"),
        (("--temperature", 1, "--min-p", "nan"), "expected min-p to be 0 to 1, got nan"),
        (("--repetition-penalty", 0), "expected repetition penalty to be 0.01 to 100, got 0.0"),
        (("--seed", -1), "expected seed to be 0 to 2^63 - 1, got -1"),
        (("--top-k", 5), "a temperature above 0 with top-k, top-p or min-p"),
        (("--stop", ""), "expected every stop string to have at least one character"),
    ],
)
def test_sampling_options_that_make_no_sense_are_refused(
    place: Place, options: tuple[object, ...], complaint: str
) -> None:
    assert complaint in refused(place.folder, *place.decode(*options))


def test_an_interrupted_calibration_says_so_and_resumes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = place.folder / "new.json"
    visits = iter(range(1000))
    real: Callable[..., list[float]] = schedule.visit

    def interrupted(*arguments: Any, **options: Any) -> list[float]:
        if next(visits) == 5:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(schedule, "visit", interrupted)
    result = smartprof(*place.calibrate(out))
    assert result.code == 130
    assert len([x for x in result.err.splitlines() if x.startswith("smartprof: interrupted")]) == 1
    assert not out.exists()
    journal = out.with_name("new.json.partial.jsonl")
    assert len(journal.read_text(encoding="utf-8").splitlines()) == 1 + 5
    again = smartprof(*place.calibrate(out))
    assert again.code == 0
    assert f"an unfinished calibration with 5 measured shapes is in {journal}" in again.err
    assert out.exists()
    assert not journal.exists()


def test_a_second_calibration_with_the_same_out_is_refused_until_the_first_ends(
    place: Place,
) -> None:
    out = place.folder / "new.json"
    with sole_writer(journal_path(out)):
        line = refused(place.folder, *place.calibrate(out))
        assert "another calibration" in line and "another --out" in line
        assert smartprof(*place.calibrate(out, "--dry-run")).code == 0
    assert smartprof(*place.calibrate(out)).code == 0
    assert not list(place.folder.glob("*.lock"))


def test_a_dry_run_lists_every_shape_and_writes_nothing(place: Place) -> None:
    before = contents(place.folder)
    result = smartprof(*place.calibrate(place.profile, "--dry-run"))
    assert result.code == 0
    assert contents(place.folder) == before
    plan = load_profile(place.profile)
    shapes = plan.quality.shapes
    listed = [x for x in result.out.splitlines() if x.strip().startswith(("fit ", "held out "))]
    assert len(listed) == shapes  # the profile was made without time to refine
    assert "nothing was measured" in result.out
    assert "most memory beside the weights" in result.out


def test_a_full_disk_while_saving_a_profile_keeps_the_old_one_and_the_samples(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(place.folder)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        result = smartprof(*place.calibrate(place.profile, "--force"))
    assert result.code == 1
    assert "No space left on device" in result.err.splitlines()[-1]
    after = contents(place.folder)
    new = set(after) - set(before)
    assert new == {f"{place.profile}.partial.jsonl"}
    assert {x: after[x] for x in before} == before
    assert "resuming" in smartprof(*place.calibrate(place.profile, "--force")).err


def test_a_full_disk_while_saving_a_report_keeps_the_old_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = place.folder / "r.json"
    report.write_text("old", encoding="utf-8")
    before = contents(place.folder)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = smartprof(*place.decode("--json", report, "--force"))
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith(f"smartprof: {report}: ")
    assert contents(place.folder) == before


def test_an_unknown_device_is_refused(place: Place) -> None:
    expected = (
        "unknown device 'gpu0': expected auto, cpu, cuda or cuda:N; one GPU, tensor parallelism is "
        "not supported"
    )
    assert refused(place.folder, *place.decode("--gpu", "gpu0")) == expected
    assert refused(place.folder, *place.calibrate(place.folder / "n", "--gpu", "gpu0")) == expected
    assert refused(place.folder, "device", "--gpu", "gpu0") == expected


def test_a_missing_model_is_refused(place: Place) -> None:
    absent = place.folder / "absent"
    line = refused(place.folder, *place.decode("--target", absent))
    assert line.startswith(f"no model '{absent}': expected one of ")
    refused(place.folder, *place.calibrate(place.folder / "n.json", "--target", absent))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_model_file_cut_short_is_refused(place: Place, share: float) -> None:
    path = place.model / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    line = refused(place.folder, *place.decode())
    assert line.startswith(f"{path} is damaged or cut short")
    refused(place.folder, *place.calibrate(place.folder / "n.json"))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_corrupt_file_of_the_model_is_refused_by_name(place: Place, name: str) -> None:
    path = place.model / name
    path.write_bytes(path.read_bytes()[:-20])
    assert name in refused(place.folder, *place.decode())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9999])
def test_a_truncated_profile_is_refused_by_every_command(place: Place, share: float) -> None:
    text = place.profile.read_text(encoding="utf-8").rstrip()
    place.profile.write_text(text[: int(share * len(text))], encoding="utf-8")
    for command in (place.decode(), place.predict(), ("show", place.profile)):
        line = refused(place.folder, *command)
        assert line.startswith(f"{place.profile}: not a profile, or truncated")


def test_a_hand_edited_profile_is_refused(place: Place) -> None:
    text = place.profile.read_text(encoding="utf-8")
    place.profile.write_text(text.replace('"batch": 4', '"batch": 5'), encoding="utf-8")
    for command in (place.decode(), place.predict(), ("show", place.profile)):
        assert "was edited or damaged after it was written" in refused(place.folder, *command)


@pytest.mark.parametrize("version", ["3", "0", '"2"', "2.0", "null"])
def test_a_wrong_schema_version_is_refused_with_both_values(place: Place, version: str) -> None:
    text = place.profile.read_text(encoding="utf-8")
    text = text.replace('"schema_version": 2', f'"schema_version": {version}')
    text = re.sub(r"sha256:[0-9a-f]{64}", checksum(text), text)
    place.profile.write_text(text, encoding="utf-8")
    line = refused(place.folder, "show", place.profile)
    assert "expected schema_version 1 or 2, got " in line
    assert version.strip('"') in line


def test_a_missing_profile_is_refused(place: Place) -> None:
    absent = place.folder / "absent.json"
    for command in (place.decode(profile=absent), ("show", absent), ("predict", absent)):
        assert str(absent) in refused(place.folder, *command)
    refused(place.folder, "show", "no-such-shipped-profile.json")
    refused(place.folder, "show", place.folder)


def test_another_device_is_refused_where_measured_figures_are_required(place: Place) -> None:
    line = refused(place.folder, *place.decode("--require-measured", profile=renamed(place)))
    assert line.startswith("expected a profile measured on this device with this target (")
    assert "Other CPU" in line
    assert smartprof(*place.decode("--require-measured")).code == 0


def test_cuda_graphs_without_a_gpu_are_refused_before_anything_is_loaded(place: Place) -> None:
    expected = (
        "--execution cuda_graph needs a GPU, the device is a cpu: use --execution eager or auto"
    )
    for arguments in (place.decode(), place.calibrate(place.folder / "new.json")):
        assert refused(place.folder, *arguments, "--execution", "cuda_graph") == expected
        line = refused(place.folder, *arguments, "--execution", "graph")
        assert line == "expected --execution auto, eager or cuda_graph, got 'graph'"


def test_eager_is_what_a_cpu_runs_whether_asked_for_or_not(place: Place) -> None:
    assert load_profile(place.profile).key.execution == "eager"
    assert smartprof(*place.decode("--execution", "eager")).code == 0


def test_a_profile_of_captured_passes_is_measured_and_used_and_refused_by_eager_ones(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, but with passes that are static and not recorded."""

    def opened(*_: object) -> Execution:
        return Execution(CapturePool(lambda run: run, pytest.fail))

    path = place.folder / "graphs.json"
    with monkeypatch.context() as patched:
        patched.setattr(execution, "open_execution", opened)
        patched.setattr(commands, "open_execution", opened)
        assert smartprof(*place.calibrate(path)).out.startswith("tiny (float32, cuda_graph) on ")
        decoded = ("--policy", "plain,chain,smart", "--batch", "1,3", "--json", place.folder / "r")
        assert smartprof(*place.decode(*decoded, profile=path)).code == 0
    runs = json.loads((place.folder / "r").read_text(encoding="utf-8"))["runs"]
    assert len(runs) > 6
    assert all(x["identical"] for x in runs)
    line = refused(place.folder, *place.decode(profile=path))
    assert "execution: the profile has 'cuda_graph', here is 'eager'" in line


def test_another_dtype_than_the_profile_s_is_refused_with_both_values(place: Place) -> None:
    line = refused(place.folder, *place.decode("--dtype", "bfloat16"))
    assert "bfloat16" in line
    assert "float32" in line
    line = refused(place.folder, *place.decode("--dtype", "float8"))
    assert line == "expected --dtype float32, bfloat16, float16, got 'float8'"


@pytest.mark.parametrize(
    ("options", "axis"),
    [
        (("--batch", 65, "--tokens", 65, "--context", 64), "batch"),
        (("--batch", 1, "--tokens", 1025, "--context", 64), "tokens"),
        (("--batch", 1, "--tokens", 4, "--context", 257), "context"),
        (("--batch", 1, "--tokens", 4, "--context", "inf"), "context"),
        (("--batch", 1, "--tokens", 4, "--context", "nan"), "context"),
        (("--batch", 0, "--tokens", 4, "--context", 64), "batch"),
        (("--batch", -3, "--tokens", 4, "--context", 64), "batch"),
        (("--batch", 4, "--tokens", 3, "--context", 64), "token"),
        (("--batch", 4, "--tokens", 3, "--context", -1), "token"),
    ],
)
def test_a_prediction_beyond_the_domain_is_refused(
    place: Place, options: tuple[object, ...], axis: str
) -> None:
    line = refused(place.folder, *place.predict(*options))
    assert line.startswith("verify: expected ")
    assert axis in line
    assert ", got " in line


def test_a_prediction_that_lacks_a_number_or_names_no_quantity_is_refused(place: Place) -> None:
    line = refused(place.folder, *place.predict("--batch", 1, "--context", 64))
    assert line == "verify: expected tokens as well, got none"
    line = refused(place.folder, *place.predict("--quantity", "verfy"))
    assert line.startswith("expected a quantity of verify, ")
    assert line.endswith("got 'verfy'")


def test_a_batch_beyond_the_domain_is_refused_before_anything_is_decoded(place: Place) -> None:
    line = refused(place.folder, *place.decode("--batch", "1,65"))
    assert "expected batch within " in line
    assert "got 65" in line


def test_a_context_beyond_the_domain_is_refused_before_anything_is_decoded(place: Place) -> None:
    place.prompts.write_text("x" * 300, encoding="utf-8")
    line = refused(place.folder, *place.decode("--no-chat"))
    assert "expected context within " in line
    assert "got 312" in line


def test_a_prompt_longer_than_the_model_is_refused_by_name(place: Place) -> None:
    place.prompts.write_text("fine\n" + "x" * (MAX_CONTEXT + 1), encoding="utf-8")
    line = refused(place.folder, *place.decode("--no-chat"))
    assert line.startswith("prompt line-2: 513 tokens and 12 new ones exceed the model's 512")


@pytest.mark.parametrize("content", [b"", b"\n\n", b'{"prompt": ""}', b'{"prompt', b"\xff\xfe"])
def test_a_prompts_file_without_usable_prompts_is_refused(place: Place, content: bytes) -> None:
    place.prompts.write_bytes(content)
    assert refused(place.folder, *place.decode()).startswith(str(place.prompts))


def test_no_prompt_of_the_asked_split_or_category_is_refused(place: Place) -> None:
    for option in (("--split", "development"), ("--category", "poetry")):
        assert option[1] in refused(place.folder, *place.decode(*option))


def test_existing_files_are_not_replaced_without_force(place: Place) -> None:
    line = refused(place.folder, *place.calibrate(place.profile))
    assert line == f"{place.profile} exists: use --force to replace it, or another name"
    figure = place.folder / "old.png"
    figure.write_bytes(b"an older figure")
    for option, path in (("--json", place.prompts), ("--plot", figure), ("--trace", figure)):
        line = refused(place.folder, *place.decode(option, path))
        assert line.startswith(f"{path} exists: ")
    refused(place.folder, "show", place.profile, "--plot", figure)


def test_outputs_that_could_not_be_written_are_refused_before_decoding(place: Place) -> None:
    line = refused(place.folder, *place.decode("--plot", place.folder / "figure.foo"))
    assert "expected an ending of" in line
    line = refused(place.folder, *place.decode("--json", place.prompts / "inside.json"))
    assert "expected a file in a folder that can be written" in line
    twice = place.folder / "twice.png"
    line = refused(place.folder, *place.decode("--json", twice, "--plot", twice))
    assert "got one twice" in line


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        (
            "greedy",
            "expected a policy of plain, chain, static, eagle2, cap, smart-paper, smart, ",
        ),
        ("plain,chain:q=4", "policy chain: unknown option 'q=4'"),
        ("chain:k=0", "policy chain: k=0 is out of bounds"),
        ("chain:k=four", "policy chain: k='four' is no int"),
        ("chain:k=4:k=5", "policy chain: option 'k' given twice"),
        ("plain:k=4", "policy plain: unknown option 'k=4'"),
        ("smart:", "policy smart: unknown option ''"),
    ],
)
def test_an_unknown_policy_or_option_is_refused_first_of_all(
    place: Place, policy: str, complaint: str
) -> None:
    result = smartprof(*place.decode("--policy", policy))
    assert (result.code, result.out) == (1, "")
    assert result.err.count("\n") == 1  # not even the model was loaded
    assert result.err.startswith(f"smartprof: {complaint}")


@pytest.mark.parametrize("text", ["", "x", "1,x", "1,,4", "0", "-1", "1.5", "1;4"])
def test_a_batch_that_is_no_list_of_numbers_is_refused(place: Place, text: str) -> None:
    line = refused(place.folder, *place.decode("--batch", text))
    assert line == f"expected --batch to be numbers such as 1,4,8, got {text!r}"


def test_an_unknown_drafter_is_refused(place: Place) -> None:
    expected = EXPECTED + "; got 'lm', which names no network"
    assert refused(place.folder, *place.decode("--drafter", "lm")) == expected
    out = place.folder / "n.json"
    assert refused(place.folder, *place.calibrate(out, "--drafter", "lm")) == expected
    for text in ("nowhere", "lm:nowhere", "hybrid:nowhere"):
        assert "no model 'nowhere'" in refused(place.folder, *place.decode("--drafter", text))


def test_a_model_without_a_tokenizer_is_refused_for_text(place: Place) -> None:
    line = refused(place.folder, *place.decode("--target", "shape:tiny-llama"))
    assert "no tokenizer" in line


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(place: Place) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens(["<|more|>"])
    tokenizer.save(str(place.model / "tokenizer.json"))
    place.prompts.write_text("<|more|>", encoding="utf-8")
    line = refused(place.folder, *place.decode("--no-chat"))
    assert line.startswith("prompt line-1: expected tokens below 258, got token 258: ")


def test_a_prompt_of_which_the_tokenizer_knows_nothing_is_refused(place: Place) -> None:
    path = place.model / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for byte in set(byte_tokenizer().encode("\N{SNOWMAN}").tokens):
        del content["model"]["vocab"][byte]
    path.write_text(json.dumps(content), encoding="utf-8")
    place.prompts.write_text("\N{SNOWMAN}", encoding="utf-8")
    line = refused(place.folder, *place.decode("--no-chat"))
    assert line.startswith("prompt line-1: expected tokens below 258, got no token: ")


def test_an_unknown_mode_is_refused(place: Place) -> None:
    line = refused(place.folder, *place.calibrate(place.folder / "n.json", "--mode", "slow"))
    assert line == "expected --mode quick, full or dense, got 'slow'"


def test_the_unfinished_run_of_another_calibration_is_refused_until_discarded(place: Place) -> None:
    out = place.folder / "n.json"
    journal = place.folder / "n.json.partial.jsonl"
    journal.write_text('{"mode": "another"}\n', encoding="utf-8")
    assert "--fresh" in refused(place.folder, *place.calibrate(out))
    assert smartprof(*place.calibrate(out, "--fresh")).code == 0
    assert not journal.exists()


HEADER = "quantity,batch,tokens,context"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "missing quantity, batch, tokens, context"),
        (HEADER, "missing rows"),
        ("quantity,batch,tokens\nverify,1,4", "missing context"),
        (f"{HEADER}\nverify,1,4,64\nverify,1,,64", "line 3: verify: expected tokens as well"),
        (f"{HEADER}\nverify,,4,64", "line 2: verify: expected batch as well"),
        (f"{HEADER}\nverify,1,4,", "line 2: verify: expected context as well"),
        (f"{HEADER}\nverify,1,4", "line 2: verify: expected context as well"),
        (f"{HEADER}\n\n,1,4,64", "line 3: expected a quantity of verify, "),
        (f"{HEADER}\nverfy,1,4,64", "line 2: expected a quantity of verify, "),
        (f"{HEADER}\nverify,one,4,64", "line 2: expected a number of batch, got 'one'"),
        (f"{HEADER}\nverify,1,4.5,64", "line 2: expected a whole number of tokens, got '4.5'"),
        (f"{HEADER}\nverify,1,inf,64", "line 2: expected a number of tokens, got 'inf'"),
        (f"{HEADER}\nverify,1,4,nan", "line 2: expected a number of context, got 'nan'"),
        (f"{HEADER}\nverify,99,99,64", "line 2: verify: expected batch within "),
        (f"{HEADER}\nverify,1,4,64,9", "line 2: expected as many cells as there are columns"),
        (f'{HEADER}\n"verify,1,4,64', "expected a CSV of queries, got: "),
    ],
)
def test_a_csv_that_cannot_be_answered_in_full_is_refused(
    place: Place, text: str, complaint: str
) -> None:
    path = place.folder / "q.csv"
    path.write_text(text, encoding="utf-8")
    line = refused(place.folder, *place.predict("--queries", path))
    assert line.startswith(f"{path}")
    assert complaint in line


def test_a_csv_that_is_not_there_or_not_text_is_refused(place: Place) -> None:
    refused(place.folder, *place.predict("--queries", place.folder / "absent.csv"))
    refused(place.folder, *place.predict("--queries", place.folder))
    (place.folder / "q.csv").write_bytes(b"\xff\xfe\x00")
    refused(place.folder, *place.predict("--queries", place.folder / "q.csv"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("decode",),
        ("decode", "--profile", "p.json", "--nope"),
        ("decode", "--profile", "p.json", "--max-new-tokens", "0"),
        ("calibrate", "--budget", "long"),
        ("calibrate", "--budget", "-1"),
        ("show",),
        ("predict", "p.json", "--batch", "one"),
        ("nonsense",),
    ],
)
def test_wrong_usage_exits_with_two_and_prints_no_traceback(arguments: tuple[str, ...]) -> None:
    result = smartprof(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert "Usage: " in result.err
    assert "Traceback" not in result.err


def test_the_version_is_printed_alone() -> None:
    assert smartprof("--version") == Result(0, f"smartprof {__version__}\n", "")


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_figure_is_cut_short_on_a_narrow_terminal(width: int) -> None:
    console = Console(width=width, file=io.StringIO())
    print_table(verify_table(load_profile(find_profile("xeon-2t-smollm2.json"))), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert "free 10 %" in shown and "30.6*" in shown


def test_a_name_between_colons_is_no_emoji(tmp_path: Path) -> None:
    save_profile(make_profile(), tmp_path / "p.json")
    given = ("plan", "--profile", tmp_path / "p.json", "--acceptance", "length:x")
    assert refused(tmp_path, *given).startswith("length:x: expected ACCEPTED/DRAFTED")


def test_show_names_plain_decoding_and_overhead_once_beside_all_drafters() -> None:
    shown = smartprof("show", "xeon-2t-smollm2.json").out
    assert [shown.count(x) for x in ("plain_decode", "round_overhead")] == [2, 2]  # two ends
    lines = [x.split() for x in shown.splitlines() if x.split()[:1] == ["plain_decode"]]
    assert [x[1] for x in lines] == ["1", "16"]
    assert "draft_step (ngram)" in shown and "draft_step (hybrid)" in shown


def test_names_with_square_brackets_are_printed_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "[bold]p[/bold].json"
    save_profile(make_profile(), path)
    plot = tmp_path / "[red]x.png"
    assert smartprof("show", path, "--plot", plot).out.endswith(f"wrote {plot}\n")


def test_an_error_of_the_installed_command_is_one_line_and_exit_code_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "smartprof.cli", "show", "absent.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("smartprof: absent.json: expected a profile, found no such file")

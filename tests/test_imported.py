"""A profile from anyone's timings: what is measured, what is stated, what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from smartprof.calibrate.imported import ImportRequest, import_profile
from smartprof.calibrate.points import Points, read_points
from smartprof.calibrate.stated import Stated
from smartprof.errors import InputError
from smartprof.profile.cost import CostModel
from smartprof.profile.files import load_profile
from tests.profiles import assert_sound, make_key
from tests.test_cli import refused, smartprof

HEADER = "quantity,batch,tokens,context,seconds\n"
STATED = Stated(0.002, 0.001, 0.0003, 0.0004, 0.01)
OPTIONS = (
    *("--device", "NVIDIA H100 80GB HBM3", "--target", "shape:Llama-3.1-8B"),
    *("--memory-gib", "79.1", "--drafter-name", "eagle3"),
)
SECONDS = (
    *("--overhead-seconds", "0.002", "--plain-overhead-seconds", "0.001"),
    *("--draft-step-seconds", "0.0003", "--draft-catchup-seconds", "0.0004"),
)

# As where torch is not installed; scipy looks for the module itself, so it must not be there.
BLOCKED = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from smartprof import cli
"""


def tiles(tokens: int) -> float:
    """A pass in tiles of 64 tokens, each a quarter of the first dearer; dear from 257."""
    tile = -(-tokens // 64)
    return 0.020 + 0.005 * (tile - 1) + 2e-6 * tokens + 0.010 * (tokens > 256)


def dips(tokens: int) -> float:
    """Tiles of 48 tokens, every second one cheaper than the one before, and a bend within each."""
    tile = -(-tokens // 48)
    within = (tokens - 48 * (tile - 1)) / 48
    return 0.030 + 0.004 * tile - 0.006 * (tile % 2 == 0) + 0.0005 * within**2


ANCHORS = (1, 8, 32, 64, 65, 96, 128, 129, 160, 192, 193, 256, 257, 288, 320, 321, 384)
PAIRS = tuple(sorted({1, 384, *range(48, 384, 48), *range(49, 384, 48)}))


def verify_rows(
    truth: Callable[[int], float], sizes: Sequence[int], batch: int = 1, context: int = 512
) -> str:
    lines = [f"verify,{batch},{x},{context},{truth(x):.9g}" for x in sizes]
    return HEADER + "\n".join(lines) + "\n"


def points_of(tmp_path: Path, text: str) -> Points:
    path = tmp_path / "points.csv"
    path.write_text(text)
    return read_points(path)


def request(points: Points, stated: Stated = STATED, drafter: str | None = "lm") -> ImportRequest:
    return ImportRequest(points, make_key(), drafter, stated, "made by a test")


def worst(tmp_path: Path, truth: Callable[[int], float], sizes: Sequence[int]) -> float:
    """Largest relative error of predicting every size of the staircase from these."""
    profile = import_profile(request(points_of(tmp_path, verify_rows(truth, sizes))))
    every = np.arange(1, 385)
    found = CostModel(profile).verify(1, every, 512)
    seconds = np.array([truth(int(x)) for x in every])
    return float(np.abs(found / seconds - 1).max())


@pytest.mark.parametrize(("truth", "anchors"), [(tiles, ANCHORS), (dips, PAIRS)])
def test_anchors_at_the_boundaries_of_a_staircase_predict_the_rest_within_2_percent(
    tmp_path: Path, truth: Callable[[int], float], anchors: Sequence[int]
) -> None:
    assert 14 <= len(anchors) <= 18
    assert worst(tmp_path, truth, anchors) <= 0.02


@pytest.mark.parametrize("truth", [tiles, dips])
def test_as_many_anchors_that_miss_the_boundaries_do_not(
    tmp_path: Path, truth: Callable[[int], float]
) -> None:
    evenly = np.linspace(1, 384, len(ANCHORS)).round().astype(int).tolist()
    assert worst(tmp_path, truth, evenly) > 0.05


def test_one_batch_and_context_of_verify_alone_make_a_profile_with_what_is_stated(
    tmp_path: Path,
) -> None:
    profile = import_profile(request(points_of(tmp_path, verify_rows(tiles, ANCHORS))))
    assert profile.provenance.kind == "imported"
    costs = CostModel(profile, "lm")
    assert costs.verify(1, 64, 512) == pytest.approx(tiles(64))
    assert costs.round_overhead(1, 64) == 0.002
    assert costs.draft_step(1, 3, 512) == 0.0003
    assert costs.draft_catchup(1, 2, 512) == 0.0004
    assert costs.plain_decode(1, 512) == pytest.approx(tiles(1) + 0.001)
    note = profile.provenance.note
    for text in (
        "points.csv (sha256 ",
        "17 rows",
        "round_overhead stated, not measured: 2 ms",
        "plain_decode stated, not measured: verify passes of one token per request + 1 ms",
        "draft_step stated, not measured: 300 us",
        "draft_catchup stated, not measured: 400 us",
        "half-width of points with one row stated: 1 %",
    ):
        assert text in note
    assert costs.predict("round_overhead", 1, 64, None).tier == "interpolated"  # nobody measured it


def test_rows_of_every_quantity_need_nothing_stated_and_pool_into_medians(tmp_path: Path) -> None:
    lines = []
    for batch in (1, 4):
        for context in (64, 512):
            for repeat, factor in enumerate((1.0, 1.1, 0.9, 1.02, 0.98)):
                for size in (batch, 8, 16):
                    for quantity in ("verify", "draft_step", "draft_catchup", "round_overhead"):
                        base = {"verify": 0.03, "round_overhead": 0.002}.get(quantity, 0.001)
                        seconds = factor * base * (1 + size / 100)
                        lines.append(f"{quantity},{batch},{size},{context},{seconds},{repeat}")
                lines.append(f"plain_decode,{batch},,{context},{factor * 0.032},{repeat}")
    text = HEADER.replace("seconds", "seconds,repeat") + "\n".join(lines)
    # Overhead has no context, so its rows of both contexts are one point: numbered apart.
    text = text.replace("round_overhead,1,1,512,", "round_overhead,1,1,,")
    with pytest.raises(InputError, match=r"line \d+: expected another repeat than in line \d+"):
        points_of(tmp_path, text)
    text = "\n".join(
        x for x in text.splitlines() if not x.startswith("round_overhead") or ",64,0" in x
    )
    profile = import_profile(request(points_of(tmp_path, text), Stated()))
    assert_sound(profile)
    assert "stated" not in profile.provenance.note
    anchor = profile.verify.anchors[0]
    assert anchor.samples == 5
    assert anchor.seconds == pytest.approx(0.03 * 1.01)
    assert 0 < anchor.ci_half_width < 0.1 * anchor.seconds
    assert profile.quality.noise_floor_pct == pytest.approx(
        100 * anchor.ci_half_width / anchor.seconds, rel=0.5
    )
    assert profile.quality.warnings == []


def test_the_timings_of_the_docs_make_a_sound_profile() -> None:
    path = Path(__file__).parents[1] / "docs" / "transformers-xeon.csv"
    points = read_points(path)
    stated = Stated(0.002, None, 0.0002, 0.0002)
    profile = import_profile(request(points, stated, "ngram"))
    assert_sound(profile)
    assert (profile.quality.shapes, profile.quality.forwards) == (38, 266)
    assert profile.quality.noise_floor_pct == pytest.approx(1.6, abs=0.05)
    assert profile.quality.regret is not None


def test_the_spread_of_a_single_row_is_unknown_unless_stated(tmp_path: Path) -> None:
    points = points_of(tmp_path, verify_rows(tiles, ANCHORS))
    unknown = import_profile(request(points, replace(STATED, half_width=None)))
    anchor = unknown.verify.anchors[0]
    assert anchor.ci_half_width == anchor.seconds
    assert unknown.quality.noise_floor_pct is None
    assert "17 of 17 points have one row" in unknown.quality.warnings[0]
    stated = import_profile(request(points)).verify.anchors[0]
    assert stated.ci_half_width == pytest.approx(0.01 * stated.seconds)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ("verify,1,1,64,0", "line 3: expected seconds above 0, got '0'"),
        ("verify,1,1,64,-1", "line 3: expected seconds above 0"),
        ("verify,1,1,64,nan", "line 3: expected a number of seconds, got 'nan'"),
        ("verify,1,1,64,", "line 3: expected seconds above 0, got ''"),
        ("verify,1,1,64,soon", "line 3: expected a number of seconds, got 'soon'"),
        ("verify,0,1,64,1", "line 3: expected batch from 1, got '0'"),
        ("verify,,1,64,1", "line 3: expected batch from 1, got ''"),
        ("verify,1.5,2,64,1", "line 3: expected a whole number of batch"),
        ("verify,4,3,64,1", "line 3: verify: expected at least one token per request, 4 in all"),
        ("verify,1,1,-3,1", "line 3: expected context from 0"),
        ("verify,1,1,,1", "line 3: expected context from 0, got ''"),
        ("verify,1,,64,1", "line 3: expected tokens from 1, got ''"),
        ("plain_decode,4,3,64,1", "line 3: plain_decode: expected one token per request, 4"),
        ("prefill,1,1,64,1", "line 3: expected a quantity of verify, plain_decode"),
        ("verify,1,1,64,1,9,9", "line 3: expected as many cells as there are columns"),
    ],
)
def test_a_bad_row_is_one_line_with_its_number_and_nothing_is_written(
    tmp_path: Path, rows: str, complaint: str
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(HEADER + "verify,1,1,64,0.02\n" + rows + "\n")
    line = refused(tmp_path, "fit", path, "--out", tmp_path / "o.json", *OPTIONS, *SECONDS)
    assert complaint in line


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (HEADER, "missing rows"),
        ("quantity,batch,tokens,seconds\nverify,1,1,1\n", "missing context"),
        ("batch," + HEADER + "1,verify,1,1,64,0.02\n", "expected each column once, got 'batch'"),
        (HEADER + "plain_decode,1,,64,0.02\n", "expected rows of verify, got none"),
        (
            HEADER + "verify,1,1,64,0.02\nverify,4,4,64,0.03\nverify,4,4,512,0.03\n",
            "got none at batch 1, context 512",
        ),
        (
            HEADER + "verify,1,2,64,0.02\nverify,1,8,64,0.03\n",
            "expected a row of one token per request (1 tokens) at batch 1, context 64, got 2",
        ),
        (
            HEADER + "verify,1,1,64,0.02\nround_overhead,1,1,,0.001\n",
            "has rows of round_overhead: expected no --overhead-seconds",
        ),
    ],
)
def test_points_that_make_no_surface_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    line = refused(tmp_path, "fit", path, "--out", tmp_path / "o.json", *OPTIONS, *SECONDS)
    assert complaint in line


def test_whatever_has_neither_rows_nor_a_stated_value_is_named_with_its_option(
    tmp_path: Path,
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(verify_rows(tiles, ANCHORS))
    line = refused(tmp_path, "fit", path, "--out", tmp_path / "o.json", *OPTIONS)
    for name, option in (
        ("round_overhead", "--overhead-seconds"),
        ("plain_decode", "--plain-overhead-seconds"),
        ("draft_step", "--draft-step-seconds"),
        ("draft_catchup", "--draft-catchup-seconds"),
    ):
        assert f"{name} ({option}: " in line


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--overhead-seconds", "0"), "expected --overhead-seconds above 0, got 0"),
        (("--half-width", "1.5"), "expected --half-width as a share"),
        (("--no-drafter",), "got both"),
        (("--target", "mine"), "expected --target as a named shape"),
        (("--target", "shape:mine"), "unknown model shape 'mine'"),
        (("--memory-gib", "0"), "expected --memory-gib"),
        (("--dtype", "int4"), "expected --dtype float32, bfloat16, float16, got 'int4'"),
        (("--execution", "fast"), "expected --execution eager, cuda_graph, got 'fast'"),
        (("--device-kind", "tpu"), "expected --device-kind cuda, cpu, got 'tpu'"),
        (("--device", ""), "device and target: name: "),
        (("--note", "a\nb"), "p.csv: command: "),
    ],
)
def test_a_bad_option_is_one_line(tmp_path: Path, options: tuple[str, ...], complaint: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(verify_rows(tiles, ANCHORS))
    given = ("fit", path, "--out", tmp_path / "o.json", *OPTIONS, *SECONDS, *options)
    assert complaint in refused(tmp_path, *given)


def test_fit_writes_a_profile_that_show_plan_and_predict_use(tmp_path: Path) -> None:
    path, out = tmp_path / "p.csv", tmp_path / "o.json"
    path.write_text(verify_rows(tiles, ANCHORS))
    given = ("fit", path, "--out", out, *OPTIONS, *SECONDS, "--half-width", "0.01")
    result = smartprof(*given)
    assert result.code == 0, result
    assert "Llama-3.1-8B (bfloat16, eager) on NVIDIA H100 80GB HBM3: imported" in result.out
    assert "round_overhead stated, not measured: 2 ms" in result.out
    assert result.err == f"wrote {out}\n"
    assert "exists" in refused(tmp_path, *given)
    profile = load_profile(out)
    assert profile.provenance.command.startswith("smartprof fit ")
    assert profile.key.target.parameters == pytest.approx(8.03e9, rel=0.01)
    shown = smartprof("show", out)
    assert shown.code == 0, shown
    assert "imported" in shown.out
    planned = smartprof("plan", "--profile", out, "--acceptance", "synthetic:0.7/0.6/0.5")
    assert planned.code == 0, planned
    assert "modelled by a profile imported" in planned.out


def test_fit_needs_no_torch(tmp_path: Path) -> None:
    path, out = tmp_path / "p.csv", tmp_path / "o.json"
    path.write_text(verify_rows(tiles, ANCHORS))
    arguments = ["smartprof", "fit", str(path), "--out", str(out), *OPTIONS, *SECONDS]
    code = BLOCKED + f"sys.argv = {arguments!r}\ncli.run()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert out.is_file()


def test_a_profile_without_a_drafter_is_only_made_when_asked_for(tmp_path: Path) -> None:
    path, out = tmp_path / "p.csv", tmp_path / "o.json"
    path.write_text(verify_rows(tiles, ANCHORS))
    rest = (*OPTIONS[:-2], *SECONDS[:4])
    assert "got neither" in refused(tmp_path, "fit", path, "--out", out, *rest)
    result = smartprof("fit", path, "--out", out, *rest, "--no-drafter", "--parameters", 5)
    assert result.code == 0, result
    assert "drafters: none" in result.out
    assert load_profile(out).drafters == {}
    given = ("fit", path, "--out", tmp_path / "new.json", *OPTIONS[:-2], *SECONDS, "--no-drafter")
    assert "expected no --draft-step-seconds without a drafter" in refused(tmp_path, *given)
    path.write_text(path.read_text() + "draft_step,1,1,512,0.001\n")
    given = ("fit", path, "--out", out, "--force", *rest, "--no-drafter")
    assert "name their drafter with --drafter-name" in refused(tmp_path, *given)

"""The acceptance file: it goes round, is refused where it does not fit, and holds what was seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smartprof.decode.acceptance import AcceptanceRequest, AcceptanceStart, acceptance_key
from smartprof.decode.learned import learned_file
from smartprof.decode.run import LaneResult
from smartprof.decode.sampling import GREEDY, Sampling
from smartprof.drafters.calibrated import CalibratedDrafter
from smartprof.drafters.ngram import NgramDrafter
from smartprof.errors import InputError, SmartprofError
from smartprof.planning.sources.learned import acceptance_of
from smartprof.planning.sources.table import read_acceptance
from smartprof.profile.acceptance import (
    AcceptanceFile,
    AcceptanceKey,
    load_acceptance,
    save_acceptance,
)
from smartprof.profile.schema import ModelKey
from smartprof.trees.acceptance import Calibration, Labelled, Proposals
from smartprof.trees.reliability import AcceptanceRecord, Reliability, SourceRecord
from tests.test_acceptance import WEIGHTS, sampled

TARGET = ModelKey(name="tiny", digest="0123", parameters=1000)


def key(sampling: Sampling = GREEDY, choice: str = "ngram") -> AcceptanceKey:
    return acceptance_key(NgramDrafter(), choice, TARGET, sampling)


def started(
    path: Path | None = None, freeze: bool = False, here: AcceptanceKey | None = None
) -> tuple[AcceptanceStart, list[str]]:
    """What a run starts from, and what it said."""
    said: list[str] = []
    request = AcceptanceRequest(path, freeze, Path("saved.json"), "smartprof decode")
    return AcceptanceStart.open(request, here or key(), said.append), said


def lane(seen: Labelled, policy: str = "smart", split: str = "development") -> LaneResult:
    """A lane whose drafter saw this; every node was verified, at the probabilities stated."""
    record = SourceRecord(seen, Reliability.of(seen.proposals.stated, seen.right))
    counted = {"evidence": np.full((2, 24), 5.0)}
    found = AcceptanceRecord({"ngram": record}, counted)
    return LaneResult(policy, "ngram", 1, split, "code", [], [], None, 0.0, found)


def labels(seed: int, nodes: int = 400) -> Labelled:
    return sampled(np.random.default_rng(seed), nodes, WEIGHTS)


def learned(*lanes: LaneResult) -> AcceptanceFile:
    return learned_file(started()[0], lanes, "some prompts")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file learned from one lane."""
    save_acceptance(learned(lane(labels(1))), tmp_path / "a.json")
    return tmp_path / "a.json"


def test_a_file_goes_round_and_is_plain_json(path: Path) -> None:
    found = load_acceptance(path)
    assert found == learned(lane(labels(1))).model_copy(update={"created": found.created})
    value = json.loads(path.read_text(encoding="utf-8"))
    assert value["schema_version"] == 1
    assert value["key"]["drafter"]["digest"] == NgramDrafter().digest
    assert value["key"]["sampling"]["temperature"] == 0.0
    assert value["provenance"] == {"command": "smartprof decode", "workloads": ["some prompts"]}


def test_the_file_holds_the_fit_of_the_labels_their_counts_and_errors(path: Path) -> None:
    seen, source = labels(1), load_acceptance(path).sources["ngram"]
    fit = Calibration.identity().fitted(seen)
    assert source.weights == fit.weights.tolist()
    assert source.precision == fit.precision.tolist()
    assert (source.nodes, source.labels) == (len(seen.proposals.first), seen.size)
    assert sum(x.right for x in source.places) == seen.right.sum()
    (errors,) = source.errors
    assert (errors.split, errors.fitted, errors.labels) == ("development", True, seen.size)
    calibrated = Reliability.of(fit.calibrated(seen.proposals), seen.right).error
    assert calibrated is not None
    assert errors.calibrated_pct == pytest.approx(100 * calibrated)
    assert errors.stated_pct is not None and errors.stated_pct > errors.calibrated_pct
    assert errors.cumulative_pct == errors.stated_pct


def test_the_page_of_code_in_the_documentation_reads_the_file(path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "acceptance.md").read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    source = load_acceptance(path).sources["ngram"]
    ours = Calibration(np.array(source.weights), np.array(source.precision))
    for stated, depth in (([0.6, 0.3, 0.05], 1), ([0.7], 4), ([0.5, 0.5], 2), ([0.01, 1e-5], 9)):
        proposals, _ = Proposals.sort([0] * len(stated), stated, [depth] * len(stated))
        theirs = names["calibrated"](path, "ngram", stated, depth)
        np.testing.assert_allclose(theirs, ours.calibrated(proposals), rtol=1e-9)


def test_a_saved_file_is_not_replaced_unless_asked(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(SmartprofError, match="exists: use --force"):
        save_acceptance(load_acceptance(path), path)
    assert path.read_bytes() == before
    save_acceptance(load_acceptance(path), path, force=True)
    assert path.read_bytes() == before


def test_a_run_starts_from_what_the_file_says(path: Path) -> None:
    start, said = started(path, freeze=True)
    drafter = start.maker(NgramDrafter)()
    assert isinstance(drafter, CalibratedDrafter)
    source = load_acceptance(path).sources["ngram"]
    np.testing.assert_array_equal(drafter.calibrations["ngram"].weights, source.weights)
    np.testing.assert_array_equal(drafter.calibrations["ngram"].precision, source.precision)
    np.testing.assert_array_equal(drafter.statistics()["evidence"], np.full((2, 24), 5.0))
    assert len(said) == 1
    assert said[0].startswith(f"acceptance from {path}: {source.labels} labels of ")
    assert said[0].endswith(", frozen")


def test_a_run_without_a_file_says_so_in_one_line() -> None:
    assert started()[1] == [
        "no --acceptance: probabilities start as the drafter states them and are corrected while "
        "decoding"
    ]
    _, said = started_frozen_without_file()
    assert said == ["no --acceptance: probabilities start as the drafter states them and stay so"]


def started_frozen_without_file() -> tuple[AcceptanceStart, list[str]]:
    said: list[str] = []
    return AcceptanceStart.open(AcceptanceRequest(freeze=True), key(), said.append), said


def test_learning_goes_on_where_the_file_ends(path: Path) -> None:
    first, second = labels(1), labels(2)
    start, _ = started(path)
    found = learned_file(start, [lane(second, split="held-out")], "other prompts")
    together = Calibration.identity().fitted(first).fitted(second)
    source = found.sources["ngram"]
    np.testing.assert_allclose(source.weights, together.weights)
    assert source.labels == first.size + second.size
    assert source.nodes == len(first.proposals.first) + len(second.proposals.first)
    assert found.provenance.workloads == ["some prompts", "other prompts"]
    assert [x.split for x in source.errors] == ["held-out"]  # earlier ones were of other weights


def test_a_frozen_run_adds_only_its_errors(path: Path) -> None:
    start, _ = started(path, freeze=True)
    before = load_acceptance(path)
    found = learned_file(start, [lane(labels(3), split="held-out")], "held-out prompts")
    old, new = before.sources["ngram"], found.sources["ngram"]
    assert found.provenance.workloads == before.provenance.workloads
    assert found.statistics == before.statistics
    assert new.model_copy(update={"errors": []}) == old.model_copy(update={"errors": []})
    assert [(x.split, x.fitted) for x in new.errors] == [("development", True), ("held-out", False)]


def test_lanes_that_decode_the_same_prompts_count_as_one() -> None:
    once = learned(lane(labels(1))).sources["ngram"]
    twice = learned(lane(labels(1)), lane(labels(1), "chain")).sources["ngram"]
    np.testing.assert_allclose(once.weights, twice.weights)
    np.testing.assert_allclose(once.precision, twice.precision)
    assert twice.labels == 2 * once.labels


def test_lanes_that_drafted_nothing_say_nothing() -> None:
    nothing = lane(Labelled.joined([]), "plain")
    assert learned(lane(labels(1)), nothing).sources == learned(lane(labels(1))).sources
    empty = learned(nothing)
    assert empty.sources == {}
    assert empty.statistics == {"evidence": np.full((2, 24), 5.0).tolist()}  # as it started


Edit = Callable[[dict[str, Any]], Any]
REFUSED: dict[str, tuple[Edit, str]] = {
    "version": (
        lambda x: x.update(schema_version=2),
        "expected an acceptance file of schema_version 1, got 2",
    ),
    "profile": (lambda x: x.pop("schema_version"), "schema_version 1, got 'no version'"),
    "field": (lambda x: x.update(extra=1), "extra: expected no such field"),
    "time": (lambda x: x.update(created="yesterday"), "expected a UTC time"),
    "weights": (lambda x: x["sources"]["ngram"]["weights"].pop(), "expected a precision of 5 rows"),
    "counts": (
        lambda x: x["sources"]["ngram"].update(labels=7),
        "expected places of 7 labels, got ",
    ),
    "right": (
        lambda x: x["sources"]["ngram"]["places"][0].update(right=10**6),
        r"expected at most \d+ right, got 1000000",
    ),
    "precision": (
        lambda x: x["sources"]["ngram"]["precision"][0].__setitem__(0, -1.0),
        "expected a positive definite precision",
    ),
    "asymmetric": (
        lambda x: x["sources"]["ngram"]["precision"][0].__setitem__(1, 0.5),
        "expected a symmetric precision",
    ),
    "nothing counted": (
        lambda x: x["statistics"]["evidence"][1].__setitem__(0, 0.0),
        "expected greater than 0",
    ),
    "statistics": (
        lambda x: x["statistics"]["evidence"][0].pop(),
        "expected two lists of one length as statistics of evidence",
    ),
    "features": (
        lambda x: x["features"].__setitem__(0, "two"),
        "expected acceptance of features .*'one'.*, got .*'two'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_wrong_is_refused_in_one_line(path: Path, name: str) -> None:
    edit, message = REFUSED[name]
    value = json.loads(path.read_text(encoding="utf-8"))
    edit(value)
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        started(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a": NaN}', b"\xff"])
def test_what_is_no_acceptance_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="expected an acceptance file") as caught:
        load_acceptance(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="make an acceptance file with"):
        load_acceptance(tmp_path / "absent.json")


def test_a_file_of_another_drafter_target_or_sampling_is_refused(path: Path) -> None:
    other_drafter = key().model_copy(
        update={"drafter": key().drafter.model_copy(update={"digest": "ngram-2"})}
    )
    other_target = key().model_copy(update={"target": TARGET.model_copy(update={"digest": "9"})})
    for here, message in (
        (other_drafter, "expected acceptance of drafter ngram-2, got ngram-1"),
        (other_target, "expected acceptance of target 9, got 0123"),
        (key(Sampling(0.7)), "expected acceptance of temperature 0.7, got 0.0"),
        (key(Sampling(repetition_penalty=1.2)), "of repetition_penalty 1.2, got 1.0"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            started(path, here=here)
        assert "\n" not in str(caught.value)


def test_another_seed_fits_and_another_name_is_warned_of(path: Path) -> None:
    assert len(started(path, here=key(Sampling(seed=9)))[1]) == 1
    _, said = started(path, here=key(choice="ngram:other"))
    assert said[1] == f"warning: {path} was learned with drafter ngram, here is ngram:other"


def test_statistics_of_another_size_are_refused_in_one_line(path: Path) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    value["statistics"]["evidence"] = [[1.0], [2.0]]
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(InputError, match="expected the statistics of ngram-1"):
        started(path)[0].maker(NgramDrafter)()


def test_nothing_can_be_saved_of_a_run_that_learns_nothing_from_nothing() -> None:
    with pytest.raises(InputError, match="expected --acceptance FILE with --save-acceptance"):
        AcceptanceRequest(None, True, Path("a.json"))


def test_a_plan_reads_the_counts_of_a_file(path: Path) -> None:
    saved = load_acceptance(path)
    found = read_acceptance(f"file:{path}")
    rows = {(x.depth, x.rank): x for x in saved.sources["ngram"].places}
    assert found.tried is not None and len(found.tried) >= 2
    for depth, tried in enumerate(found.tried, 1):
        assert tried == rows[depth, 1].proposed
        rates = found.positional.rates[depth - 1]
        assert rates == tuple(rows[depth, x].right / tried for x in range(1, len(rates) + 1))
    with pytest.raises(InputError, match="cannot be read"):
        read_acceptance(f"file:{path.parent / 'none.json'}")
    empty = saved.model_copy(update={"sources": {}})
    with pytest.raises(InputError, match="expected drafts that were verified, got none"):
        acceptance_of(empty, path)

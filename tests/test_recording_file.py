"""Traces on disk: what is written comes back, and nothing else is taken for one."""

from __future__ import annotations

import io
import json
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smartprof.decode.record import MOST_EXPANDED, TraceSize
from smartprof.decode.trace import write_trace
from smartprof.drafters.model_drafter import TREE_SLOTS
from smartprof.errors import InputError
from smartprof.trees.recording import Facts, Recording
from smartprof.trees.recording_file import FACTS, read_recording, recording_arrays

SOUND = Recording(
    facts=Facts("tiny", "both", "d", "greedy", "held-out prompts", 2, 2, "sha"),
    sources=("ngram", "both"),
    taken_by_outlook=np.array([True, False]),
    prompt=np.array(["a", "b"]),
    category=np.array(["code", "code"]),
    split=np.array(["held-out", "held-out"]),
    prompt_tokens=np.array([3, 4]),
    most_new=np.array([2, 5]),
    pending=np.array([[0, 1], [0, 1]]),
    output_start=np.array([0, 2, 3]),
    output=np.array([7, 8, 9]),
    tree_start=np.array([0, 0, 3, 3, 5, 5, 6]),  # trees of 0, 3, 0, 2, 0 and 1 nodes
    parent=np.array([0, 0, 1, 0, 1, 0]),
    token=np.array([7, 5, 8, 8, 4, 9]),
    conditional=np.array([0.5, 0.25, 1 / 3, 0.9, 1.0, 1e-9]),
    asked=np.array([True, False, False, True, True, False]),
)


@cache
def written() -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **recording_arrays(SOUND))
    return content.getvalue()


def saved(folder: Path, changes: dict[str, Any]) -> Path:
    """The sound file with some arrays changed; None leaves one out."""
    arrays = {**recording_arrays(SOUND), **changes}
    np.savez(folder / "t.npz", **{x: y for x, y in arrays.items() if y is not None})
    return folder / "t.npz"


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_recording(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text
    return text


def test_a_recording_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    write_trace([], tmp_path / "t.npz", SOUND)
    found = read_recording(tmp_path / "t.npz")
    assert (found.facts, found.sources) == (SOUND.facts, SOUND.sources)
    for field in (x.name for x in fields(Recording) if x.name not in ("facts", "sources")):
        np.testing.assert_array_equal(getattr(found, field), getattr(SOUND, field))


def test_no_children_and_children_not_asked_for_are_different() -> None:
    nodes, roots = SOUND.child_count[:6], SOUND.child_count[6:]
    assert nodes.tolist() == [1, -1, -1, 1, 0, -1]
    assert roots.tolist() == [0, 2, 0, 1, 0, 1]
    assert SOUND.first_child[[0, 3, 7, 9, 11]].tolist() == [2, 4, 0, 3, 5]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes(written()[: int(share * len(written()))])
    assert "cut short" in refusal(path)


def test_damage_within_the_file_is_refused(tmp_path: Path) -> None:
    content = bytearray(written())
    middle = content.index(b"node_conditional.npy") + 60
    content[middle : middle + 8] = bytes(8)
    (tmp_path / "t.npz").write_bytes(content)
    refusal(tmp_path / "t.npz")


def test_other_files_are_refused_by_what_they_are(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.npz")
    (tmp_path / "t.json").write_text("{}")
    assert "no npz" in refusal(tmp_path / "t.json")
    np.savez(tmp_path / "other.npz", values=np.arange(3))
    assert "one of something else" in refusal(tmp_path / "other.npz")
    write_trace([], tmp_path / "rounds.npz")
    assert "one of rounds alone: record them with" in refusal(tmp_path / "rounds.npz")
    np.savez(tmp_path / "objects.npz", **{FACTS: np.array([{}], object)})
    assert "allow_pickle" in refusal(tmp_path / "objects.npz")


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no tokens": ({"node_token": None}, "lacks node_token"),
    "another format": ({FACTS: np.array('{"format": 2}')}, "facts"),
    "a later format": (
        {FACTS: np.array(json.dumps({"format": 2, **vars(SOUND.facts)}))},
        "expected trace format 1, got 2",
    ),
    "text for a number": (
        {FACTS: np.array(json.dumps({"format": 1, **vars(SOUND.facts), "width": "2"}))},
        "whole numbers",
    ),
    "nested facts": ({FACTS: np.array("[" * 100_000)}, "expected facts of a recording"),
    "a token short": ({"node_token": SOUND.token[:-1]}, "token has shape"),
    "a probability of another kind": ({"node_conditional": SOUND.parent}, "node_conditional as"),
    "starts beyond the end": ({"tree_start": SOUND.tree_start + 1}, "tree_start does not rise"),
    "falling starts": ({"tree_start": np.array([0, 3, 0, 3, 5, 5, 6])}, "tree_start does not rise"),
    "an empty output": ({"request_output_start": np.array([0, 3, 3])}, "output is empty"),
    "an output too long": ({"request_most_new": np.array([1, 5])}, "longer than was asked for"),
    "a parent behind its child": ({"node_parent": np.array([0, 0, 3, 0, 1, 0])}, "no parent"),
    "children apart": ({"node_parent": np.array([0, 1, 0, 0, 1, 0])}, "no parent before"),
    "children nobody asked for": ({"node_asked": ~SOUND.asked}, "nobody asked for"),
    "no probability": ({"node_conditional": np.zeros(6)}, "probabilities are none"),
    "not a number": ({"node_conditional": np.full(6, np.nan)}, "probabilities are none"),
    "siblings above 1": ({"node_conditional": np.full(6, 0.6)}, "probabilities are none"),
    "twins": ({"node_token": np.array([7, 7, 8, 8, 4, 9])}, "same token"),
    "a token below 0": ({"output_token": np.array([7, -1, 9])}, "a token is negative"),
    "no prompt": ({"request_prompt_tokens": np.array([0, 4])}, "a count is out of bounds"),
    "no request": ({"request_prompt": np.zeros(0, "U1")}, "has shape"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_inconsistent_arrays_are_refused_in_one_line(tmp_path: Path, fault: str) -> None:
    changes, expected = FAULTS[fault]
    assert expected in refusal(saved(tmp_path, changes))


def test_the_unchanged_arrays_are_taken(tmp_path: Path) -> None:
    """Negative control for the faults."""
    assert read_recording(saved(tmp_path, {})).requests == 2
    assert replace(SOUND).trees == 6


@pytest.mark.parametrize("width, depth", [(0, 3), (65, 1), (3, 0), (64, 5), (16, 17)])
def test_sizes_that_no_drafter_could_draft_whole_are_refused(width: int, depth: int) -> None:
    with pytest.raises(InputError, match="expected --trace-width W and --trace-depth D"):
        TraceSize(width, depth)
    assert TraceSize(64, 1).width == 64
    assert MOST_EXPANDED <= TREE_SLOTS

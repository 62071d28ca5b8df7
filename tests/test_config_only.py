"""A directory or Hub id with nothing but `config.json` stands for random weights of its shape."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from smartprof import device
from smartprof.errors import ModelError
from smartprof.models.weights import load_weights, read_shape, resolve_target
from smartprof.profile.files import load_profile
from tests.test_cli import smartprof
from tests.test_hub import COMMIT
from tests.tiny_model import CONFIG, write_tiny_model


def config_only(folder: Path) -> Path:
    write_tiny_model(folder)
    for path in folder.iterdir():
        if path.name != "config.json":
            path.unlink()
    return folder


def test_a_config_alone_gives_random_weights_of_its_shape(tmp_path: Path) -> None:
    folder = config_only(tmp_path / "mine")
    found = resolve_target(str(folder))
    assert (found.name, found.path, found.weights) == ("mine", None, "random weights")
    assert found.shape == read_shape(folder)
    weights = found.load(torch.float32, "cpu")
    assert weights["model.embed_tokens.weight"].shape == (CONFIG["vocab_size"], 64)


def test_weights_that_are_there_are_taken(tmp_path: Path) -> None:
    found = resolve_target(str(write_tiny_model(tmp_path / "mine")))
    assert found.weights == "real weights"
    stored = load_weights(tmp_path / "mine", torch.float32, "cpu")[1]
    loaded = found.load(torch.float32, "cpu")
    assert all(torch.equal(loaded[x], y) for x, y in stored.items())


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors.index.json"])
def test_weights_that_cannot_be_read_are_refused_and_not_made_up(tmp_path: Path, name: str) -> None:
    folder = config_only(tmp_path / "mine")
    (folder / name).write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError):
        resolve_target(str(folder)).load(torch.float32, "cpu")


def test_a_hub_id_whose_cache_holds_a_config_alone_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = config_only(tmp_path / COMMIT)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(snapshot))
    found = resolve_target("someone/tiny")
    assert (found.name, found.path) == ("tiny", None)
    assert os.listdir(snapshot) == ["config.json"]


def test_calibrate_says_on_screen_and_in_the_file_which_weights_it_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "physical_cores", lambda: 1)
    folder = config_only(tmp_path / "mine")
    said = smartprof(
        *("calibrate", "--gpu", "cpu", "--target", folder, "--budget", 0),
        *("--drafter", "ngram", "--out", tmp_path / "p.json"),
    )
    assert said.code == 0, said
    assert "loaded mine (float32, random weights) in" in said.err
    profile = load_profile(tmp_path / "p.json")
    assert profile.key.target.name == "mine"
    assert profile.provenance.note.startswith("random weights; ")

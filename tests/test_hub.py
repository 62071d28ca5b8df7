"""Hub ids, on a local cache laid out as the Hub's and without any network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from huggingface_hub import errors

from smartprof.errors import ModelError
from smartprof.models import hub
from smartprof.models.weights import resolve_target
from tests.tiny_model import CONFIG, write_tiny_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESOLVE = """
from smartprof.errors import ModelError
from smartprof.models.weights import load_weights, resolve_target
import sys, torch
try:
    found = resolve_target(sys.argv[1])
    print(found.name, len(found.load(torch.float32, "cpu")))
except ModelError as error:
    print("refused:", error)
"""


def _cached(cache: Path) -> None:
    """Lay the tiny model out as `huggingface_hub` does after a download of branch main."""
    repository = cache / "models--someone--tiny"
    (repository / "snapshots").mkdir(parents=True)
    write_tiny_model(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT, encoding="utf-8")


def _resolve_offline(cache: Path, name: str) -> str:
    """What a fresh process says: the Hub's settings are read once, when it is imported."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)}
    command = [sys.executable, "-c", RESOLVE, name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("name", ["someone/tiny", f"someone/tiny@{COMMIT}"])
def test_a_model_in_the_hub_cache_is_found_offline_by_its_id(tmp_path: Path, name: str) -> None:
    _cached(tmp_path)
    found = _resolve_offline(tmp_path, name)
    assert found == f"tiny {2 + 9 * CONFIG['num_hidden_layers']}"


@pytest.mark.parametrize("name", ["someone/else", "someone/tiny@other"])
def test_what_the_cache_lacks_is_refused_in_one_line_when_offline(
    tmp_path: Path, name: str
) -> None:
    _cached(tmp_path)
    said = _resolve_offline(tmp_path, name)
    assert said.startswith(f"refused: {name}: not in the local Hub cache, and the Hub cannot be")
    assert "\n" not in said


def _raising(name: str) -> Callable[..., str]:
    error = getattr(errors, name)("as the Hub says", response=Mock())

    def download(*_: object, **__: object) -> str:
        raise error

    return download


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("RepositoryNotFoundError", "check the spelling"),
        ("RevisionNotFoundError", "check the spelling"),
        ("GatedRepoError", "accept its terms"),
    ],
)
def test_a_refusal_of_the_hub_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: str, said: str
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", _raising(error))
    with pytest.raises(ModelError, match=said):
        resolve_target("someone/tiny")


def test_a_directory_with_a_slash_in_its_name_comes_before_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_model(tmp_path / "someone" / "tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", _raising("RepositoryNotFoundError"))
    assert resolve_target("someone/tiny").path == Path("someone/tiny")


@pytest.mark.parametrize("name", ["tiny", "./a/b", "../a", "a/b/c", "/a/b", "shape:x/y", "a/b@"])
def test_what_is_no_hub_id_is_never_asked_for_there(name: str) -> None:
    assert not hub.is_hub_id(name)

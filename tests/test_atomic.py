from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from smartprof import atomic
from smartprof.atomic import write_atomically
from smartprof.errors import SmartprofError


def _appearing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process writes the file while this one writes its own."""
    write = atomic._write_synced

    def slowly(content: bytes, temporary: Path) -> None:
        write(content, temporary)
        path.write_text("theirs")

    monkeypatch.setattr(atomic, "_write_synced", slowly)


def test_a_file_that_appears_meanwhile_is_kept_unless_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.json"
    _appearing(path, monkeypatch)
    with pytest.raises(SmartprofError, match="exists: use --force"):
        write_atomically("ours", path, force=False)
    assert path.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically("ours", path, force=True)
    assert path.read_text() == "ours"


def test_a_link_without_a_target_is_not_replaced_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(SmartprofError, match="exists"):
        write_atomically("ours", path, force=False)
    write_atomically("ours", path, force=True)
    assert not path.is_symlink() and path.read_text() == "ours"


def test_a_file_system_without_hard_links_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "out.json"
    write_atomically("ours", path, force=False)
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "ours"

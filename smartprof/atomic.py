"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from smartprof.errors import SmartprofError


def write_atomically(content: str | bytes, path: Path, force: bool) -> None:
    """Write text (as UTF-8) or bytes through a temporary file in the same folder, synced.

    Whatever happens, an interrupt too, `path` holds either the old content or all of the new one.
    Raises SmartprofError if it exists and may not be replaced, or cannot be written.
    """
    if not force and os.path.lexists(path):
        raise _existing(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        _write_synced(content if isinstance(content, bytes) else content.encode(), temporary)
        if force:
            os.replace(temporary, path)
        else:
            _put_anew(temporary, path)
    except OSError as error:
        raise SmartprofError(
            f"{path}: cannot be written ({error.strerror or error}); nothing was changed: "
            "free some space or choose another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # it was never made, or has its final name now
            temporary.unlink()


def _put_anew(temporary: Path, path: Path) -> None:
    """Give the file its name, unless another has taken that since it was looked for."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise _existing(path) from None
    except (OSError, AttributeError):  # a file system, or a system, without hard links
        os.replace(temporary, path)


def _existing(path: Path) -> SmartprofError:
    return SmartprofError(f"{path} exists: use --force to replace it, or another name")


def _write_synced(content: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

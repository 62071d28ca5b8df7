"""Profiles on disk: finding, strict loading, saving."""

from __future__ import annotations

import os
import sysconfig
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from smartprof.atomic import write_atomically
from smartprof.errors import ProfileError
from smartprof.profile.canonical import CHECKSUM, checksum, parse_strictly, readable
from smartprof.profile.describe import first_error, shown
from smartprof.profile.migrate import VERSION, VERSIONS, migrated
from smartprof.profile.schema import Profile

__all__ = ["checksum", "find_profile", "load_profile", "parse_profile", "save_profile"]


def load_profile(path: str | Path) -> Profile:
    """Read a profile. Raises ProfileError in one line, naming the file, if anything is wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path}: expected JSON in UTF-8, got other bytes") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ProfileError(
            f"{path}: cannot be read ({reason}): name a profile, or make one with "
            "`smartprof calibrate`"
        ) from error
    return parse_profile(text, str(path))


def parse_profile(text: str, name: str) -> Profile:
    """A profile from the text of its file; `name` is what errors call it. Raises ProfileError.

    One of an older version becomes one of the present, under the checksum that was written with it.
    """
    try:
        value = parse_strictly(text)
        found = checksum(text)
    except ValueError as error:
        raise ProfileError(f"{name}: not a profile, or truncated: {error}") from error
    _require_version(value, name)
    _require_checksum(value, found, name)
    try:
        return Profile.model_validate(migrated(value))
    except ValidationError as error:
        raise ProfileError(f"{name}: not a valid profile: {first_error(error)}") from error
    except ValueError as error:
        raise ProfileError(f"{name}: not a valid profile: {error}") from error


def save_profile(profile: Profile, path: str | Path, force: bool = False) -> Profile:
    """Write a profile with its checksum, whole or not at all; returns it as written.

    Raises SmartprofError if the file exists and `force` is not given, or cannot be written, and
    ProfileError if what would be written could not be loaded again.
    """
    content = profile.model_dump(mode="json", exclude={CHECKSUM})
    content[CHECKSUM] = checksum(readable(content))
    text = readable(content) + "\n"
    written = parse_profile(text, str(path))
    write_atomically(text, Path(path), force)
    return written


def find_profile(name: str | Path) -> Path:
    """The file that `name` means: as given from the current folder, else a shipped profile.

    Raises ProfileError listing the shipped profiles.
    """
    path = Path(name)
    if os.path.exists(path) and not os.path.isdir(path):
        return path
    shipped = _shipped()
    if path.name == str(path) and path.name in shipped:
        return shipped[path.name]
    known = ", ".join(sorted(shipped)) or "none"
    raise ProfileError(
        f"{path}: expected a profile, found no such file here and none among the shipped ones "
        f"({known}): make one with `smartprof calibrate`"
    )


def _shipped() -> dict[str, Path]:
    """Shipped profiles by file name: of the installed package, else of the checkout around it."""
    around = Path(str(resources.files("smartprof"))).parent
    in_checkout = (around / "pyproject.toml").is_file()
    installed = Path(sysconfig.get_path("data")) / "share" / "smartprof"
    folder = (around if in_checkout else installed) / "profiles"
    return {x.name: x for x in folder.glob("*.json")}


def _require_version(value: Any, name: str) -> None:
    version = value.get(VERSION, "no version")
    if type(version) is not int or version not in VERSIONS:
        known = " or ".join(map(str, VERSIONS))
        raise ProfileError(
            f"{name}: expected schema_version {known}, got {shown(version)}: "
            "use the smartprof that wrote it, or calibrate again"
        )


def _require_checksum(value: Any, found: str, name: str) -> None:
    written = value.get(CHECKSUM, "none")
    if written != found:
        raise ProfileError(
            f"{name}: was edited or damaged after it was written (expected checksum "
            f"{shown(written)}, got {found}): calibrate again or restore the file"
        )

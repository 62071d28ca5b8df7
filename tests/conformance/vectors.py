"""The vectors as a file, and the check of a reader against them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.conformance.questions import envelopes, queries
from tests.conformance.readers import Library, Opened
from tests.conformance.subjects import Subject, subjects

FOLDER = Path(__file__).parent
VECTORS = "vectors.json"
PROFILES = "profiles"
Vectors = dict[str, list[dict[str, Any]]]


def written(seconds: float) -> str:
    """Ten digits: what is compared."""
    return f"{seconds:.9e}"


def contract_files() -> dict[str, str]:
    """Every generated file of this folder, by its path in it, with the library's answers."""
    made = subjects()
    files = {f"{PROFILES}/{name}": subject.text for name, subject in made.items()}
    return files | {VECTORS: laid_out(_answered(made))}


def load_vectors(folder: Path = FOLDER) -> Vectors:
    """The vectors of a folder."""
    found: Vectors = json.loads((folder / VECTORS).read_text(encoding="utf-8"))
    return found


def failures(
    load: Callable[[str], Opened], vectors: Vectors, folder: Path = FOLDER
) -> Iterator[str]:
    """What a reader gets wrong, one line for each vector. load: text of a profile -> reader."""
    opened: dict[str, Opened] = {}
    for vector in vectors["files"]:
        name = vector["profile"]
        text = (folder / PROFILES / name).read_text(encoding="utf-8")
        with contextlib.suppress(ValueError):
            opened[name] = load(text)
        if (name in opened) != vector["accepted"]:
            yield f"{name}, {vector['about']}: accepted {name in opened}"
    for kind, ask in (("queries", _seconds), ("envelopes", _envelope)):
        for vector in vectors[kind]:
            given = _outcome(ask, opened.get(vector["profile"]), vector)
            if given != {x: vector.get(x) for x in given}:
                yield f"{vector['profile']}, {vector['about']}: got {given}"


def _outcome(
    ask: Callable[[Opened, dict[str, Any]], dict[str, Any]],
    profile: Opened | None,
    vector: dict[str, Any],
) -> dict[str, Any]:
    if profile is None:
        return {"refused": "file"}
    try:
        return ask(profile, vector)
    except LookupError:
        return {"refused": "domain"}
    except ValueError:
        return {"refused": "request"}


def _seconds(profile: Opened, query: dict[str, Any]) -> dict[str, Any]:
    keys = ("quantity", "batch", "size", "context", "drafter")
    seconds, tier = profile.seconds(**{x: query[x] for x in keys})
    return {"seconds": written(seconds), "tier": tier}


def _envelope(profile: Opened, query: dict[str, Any]) -> dict[str, Any]:
    seconds, run = profile.envelope(query["batch"], query["tokens"], query["context"])
    return {"seconds": written(seconds), "run": run}


def _answered(made: dict[str, Subject]) -> Vectors:
    opened = {name: Library(x.text) for name, x in made.items() if x.accepted}
    return {
        "files": [
            {"about": x.about, "profile": name, "accepted": x.accepted} for name, x in made.items()
        ],
        "queries": [
            x | _outcome(_seconds, opened[x["profile"]], x) for x in map(asdict, queries())
        ],
        "envelopes": [
            x | _outcome(_envelope, opened[x["profile"]], x) for x in map(asdict, envelopes())
        ],
    }


def laid_out(vectors: Vectors) -> str:
    """One vector a line."""
    lists = (
        f"{json.dumps(kind)}: [\n" + ",\n".join(map(json.dumps, found)) + "\n]"
        for kind, found in vectors.items()
    )
    return "{\n" + ",\n".join(lists) + "\n}\n"

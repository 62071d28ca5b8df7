"""What ran fastest on this machine, kept in the user's cache from one load of a model to the next.

Where two ways are close, two measurements may choose differently; a profile would then hold the
seconds of other passes than decoding runs. A file that is missing, damaged or of something else is
as none at all, and a cache that cannot be written to keeps nothing. Knows no tensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smartprof.atomic import write_atomically
from smartprof.device import BUSY_LOAD, Device, load_average
from smartprof.errors import SmartprofError
from smartprof.models.grouping import AttentionCosts, CallCosts
from smartprof.models.kernels import Kernels, Size
from smartprof.models.user_cache import cache_dir

FORMAT = 4  # one more whenever the file, or what is measured and how it is chosen, changes
FOLDER = "kernels"
DIGEST_LENGTH = 16


@dataclass(frozen=True)
class Passes:
    """What passes of a model consist of, as far as a choice depends on it.

    linears: sizes of the products that can be laid out, in the order of a pass.
    """

    dtype: str
    linears: tuple[Size, ...]
    heads: int
    kv_heads: int
    head_dim: int


@dataclass(frozen=True)
class Choice:
    """How products of each size run, and what attention calls cost, by which they are grouped."""

    kernels: Mapping[Size, Kernels]
    attention: AttentionCosts


class KernelMemory:
    """Choices of one machine by what they were measured for."""

    def __init__(
        self,
        machine: Mapping[str, Any],
        folder: Path,
        anew: bool = False,
        lasting: bool = True,
    ) -> None:
        """machine: whatever a choice depends on beside the model, as JSON has it.

        anew: recall only what was kept here before, as if the folder were empty. lasting: whether
        what is kept goes into the folder.
        """
        self._machine, self._folder = dict(machine), folder
        self._anew, self._lasting = anew, lasting
        self._kept: dict[Passes, Choice] = {}

    def recall(self, passes: Passes) -> Choice | None:
        """What was chosen for such passes; None if nobody knows."""
        kept = self._kept.get(passes)
        if kept is not None or self._anew:
            return kept
        key = self._key(passes)
        try:
            text = self._path(key).read_text(encoding="utf-8")
        except (OSError, ValueError):  # missing, or no text
            return None
        return parse_choice(text, key, passes.linears)

    def keep(self, passes: Passes, choice: Choice) -> None:
        """Remember a choice, in the folder, too, where that can be written to."""
        self._kept[passes] = choice
        if not self._lasting:
            return
        key = self._key(passes)
        with contextlib.suppress(SmartprofError):
            write_atomically(choice_text(choice, key), self._path(key), force=True)

    def _key(self, passes: Passes) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "machine": self._machine,
            "dtype": passes.dtype,
            "linears": _digest(passes.linears),
            "attention": [passes.heads, passes.kv_heads, passes.head_dim],
        }

    def _path(self, key: Mapping[str, Any]) -> Path:
        return self._folder / f"{_digest(key)}.json"


def open_memory(device: Device, torch_version: str, anew: bool = False) -> KernelMemory:
    """That of this device in the user's cache.

    anew: measure everything once more; that lasts. Else what is measured beside other work, which
    may be far off, holds for this process alone.
    """
    load = load_average()
    machine = {
        "cpu": device.name,
        "digest": device.uuid_digest,
        "capability": device.capability,
        "threads": device.threads,
        "torch": torch_version,
    }
    lasting = anew or load is None or load <= BUSY_LOAD
    return KernelMemory(machine, cache_dir() / FOLDER, anew, lasting)


def choice_text(choice: Choice, key: Mapping[str, Any]) -> str:
    """The content of a file."""
    kernels = {
        _name(size): {"counts": x.counts, "ways": x.ways} for size, x in choice.kernels.items()
    }
    content = {"key": key, "kernels": kernels, "attention": asdict(choice.attention)}
    return json.dumps(content, indent=1) + "\n"


def parse_choice(text: str, key: Mapping[str, Any], sizes: Sequence[Size]) -> Choice | None:
    """What `choice_text` wrote for this key; None for anything that is not wholly right."""
    try:
        found = json.loads(text)
        if found["key"] != key:
            return None
        kernels = {size: _kernels(found["kernels"][_name(size)]) for size in sizes}
        attention = found["attention"]
        ragged = attention["ragged"]
        costs = AttentionCosts(
            alone=_costs(attention["alone"]),
            together=_costs(attention["together"]),
            ragged=None if ragged is None else _costs(ragged),
        )
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return Choice(kernels, costs)


def _kernels(found: Any) -> Kernels:
    counts, ways = found["counts"], found["ways"]
    if not all(type(x) is int for x in counts) or not all(type(x) is str for x in ways):
        raise ValueError("expected counts and names of ways")
    kernels = Kernels(tuple(counts), tuple(ways))
    if not kernels.sound:
        raise ValueError("expected a way that can be run at every count")
    return kernels


def _costs(found: Any) -> CallCosts:
    costs = CallCosts(**found)
    seconds = asdict(costs).values()
    if not all(type(x) is float and math.isfinite(x) and x >= 0 for x in seconds):
        raise ValueError("expected seconds")
    return costs


def _name(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:DIGEST_LENGTH]

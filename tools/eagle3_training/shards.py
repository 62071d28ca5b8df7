"""Training data on disk: shards of sequences with the target's features and top probabilities.

A folder holds `data.json` (what made it), `shards.jsonl` (a line per shard, with its sha256) and
the shards, safetensors files in which sequences lie one behind the other:

tokens int32 [sum of T]; features bfloat16 [sum of T - 1, 3 * hidden], of every token but the last,
which the target did not read; top_id int32 and top_logprob float16 [sum of T - P, K], the target's
most probable tokens where an answer token follows; total int32 [n] = T and prompt int32 [n] = P.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from smartprof.errors import InputError
from smartprof.report.json_files import write_json

DATA_FILE, INDEX_FILE = "data.json", "shards.jsonl"


@dataclass(frozen=True, eq=False)
class Example:
    """One prompt with its answer.

    tokens: int32 [T], of which `prompt` are the prompt. features: [T - 1, 3 * hidden]. top_id,
    top_logprob: [T - prompt, K], of the answer's tokens, most probable first.
    """

    tokens: Tensor
    prompt: int
    features: Tensor
    top_id: Tensor
    top_logprob: Tensor


@dataclass(frozen=True)
class ShardEntry:
    """A line of the index. last: the largest instruction number in it or in those before."""

    file: str
    sha256: str
    sequences: int
    answer_tokens: int
    last: int


class ShardFolder:
    """The data of one target, made with one set of settings."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Open or begin a folder.

        Raises:
            InputError: it holds data of another target or of other settings.
        """
        self.folder = folder
        path = folder / DATA_FILE
        if not path.exists():
            write_json(dict(settings), path)
        known = json.loads(path.read_text("utf-8"))
        for name in sorted(known.keys() | settings.keys()):
            if known.get(name) != settings.get(name):
                raise InputError(
                    f"{folder}: its data were made with {name} = {known.get(name)}, asked for is "
                    f"{settings.get(name)}: name another folder, or the same settings"
                )
        self.entries = read_index(folder)

    def examples(self) -> Iterator[Example]:
        """All of them, shard by shard."""
        for entry in self.entries:
            yield from Shard(self.folder / entry.file, entry).examples()

    def add(self, sequences: Sequence[Example], last: int) -> ShardEntry:
        """Write a shard, then its line: a shard cut short is no part of the data."""
        name = f"shard-{self._next_number():05d}.safetensors"
        path = self.folder / name
        save_file(_joined(sequences), path)
        answers = sum(len(x.top_id) for x in sequences)
        entry = ShardEntry(name, file_digest(path), len(sequences), answers, last)
        with (self.folder / INDEX_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(entry)) + "\n")
        self.entries.append(entry)
        return entry

    def _next_number(self) -> int:
        return 1 + max((int(x.file.split("-")[1][:5]) for x in self.entries), default=-1)


def read_index(folder: Path) -> list[ShardEntry]:
    """The shards that were written whole."""
    path = folder / INDEX_FILE
    if not path.exists():
        return []
    return [ShardEntry(**json.loads(x)) for x in path.read_text("utf-8").splitlines()]


def read_settings(folder: Path) -> dict[str, Any]:
    """What the data were made with."""
    try:
        found: dict[str, Any] = json.loads((folder / DATA_FILE).read_text("utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: expected training data, {DATA_FILE} is missing: make them with `data`"
        ) from error
    return found


def answer_texts(folder: Path, ends: Collection[int]) -> Iterator[list[int]]:
    """Tokens of the answers that came to an end."""
    for example in ShardFolder(folder, read_settings(folder)).examples():
        answer = example.tokens[example.prompt :].tolist()
        if answer[-1] in ends:
            yield answer


class Shard:
    """One file, opened; sequences are read where they lie."""

    def __init__(self, path: Path, entry: ShardEntry) -> None:
        """Raises InputError if the file is not the one that was written."""
        if not path.exists() or file_digest(path) != entry.sha256:
            raise InputError(
                f"{path}: expected the shard of the index, got none or another: delete its line "
                f"in {INDEX_FILE} to go on without it"
            )
        self._file = safe_open(path, "pt")
        self.total = self._file.get_tensor("total").tolist()
        self.prompt = self._file.get_tensor("prompt").tolist()

    def examples(self) -> Iterator[Example]:
        """All of them, in order."""
        yield from (self[x] for x in range(len(self.total)))

    def __getitem__(self, index: int) -> Example:
        total, prompt = self.total[index], self.prompt[index]
        before, asked = sum(self.total[:index]), sum(self.prompt[:index])
        seen, answered = before - index, before - asked

        def part(name: str, start: int, count: int) -> Tensor:
            return self._file.get_slice(name)[start : start + count]

        return Example(
            part("tokens", before, total),
            prompt,
            part("features", seen, total - 1),
            part("top_id", answered, total - prompt),
            part("top_logprob", answered, total - prompt),
        )


def _joined(sequences: Sequence[Example]) -> dict[str, Tensor]:
    names = ("tokens", "features", "top_id", "top_logprob")
    tensors = {x: torch.cat([getattr(y, x) for y in sequences]) for x in names}
    tensors["total"] = torch.tensor([len(x.tokens) for x in sequences], dtype=torch.int32)
    tensors["prompt"] = torch.tensor([x.prompt for x in sequences], dtype=torch.int32)
    return tensors


def file_digest(path: Path) -> str:
    """Its sha256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Prompts: the bundled set, or a file of the user's own."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from smartprof.errors import InputError

SPLITS = ("development", "held-out")
CATEGORIES = ("conversation", "code", "editing", "summarising", "mathematics", "reading")
OWN = "own"  # split and category of prompts that name none


@dataclass(frozen=True)
class Prompt:
    """One user turn, with the workload it stands for."""

    id: str
    category: str
    split: str
    text: str


def bundled_prompts() -> list[Prompt]:
    """The 120 prompts shipped with the package."""
    source = resources.files("smartprof") / "assets" / "prompts.jsonl"
    return _parse(source.read_text(encoding="utf-8"), "bundled prompts")


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts from JSON lines ({"prompt": ...}, optional id, category, split) or plain lines.

    Raises InputError if the file cannot be read, holds no prompt, or a line is not one.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected a readable UTF-8 prompts file, got: {error}") from error
    return _parse(text, str(path))


def select_prompts(
    prompts: list[Prompt], split: str | None, category: str | None, per_category: int | None
) -> list[Prompt]:
    """Prompts of one split and category, at most so many of each category, in file order.

    Raises InputError when none is left.
    """
    chosen: list[Prompt] = []
    taken: Counter[str] = Counter()
    for prompt in prompts:
        fits = split in (None, prompt.split) and category in (None, prompt.category)
        if fits and (per_category is None or taken[prompt.category] < per_category):
            chosen.append(prompt)
            taken[prompt.category] += 1
    if not chosen:
        has = sorted({(x.split, x.category) for x in prompts})
        raise InputError(
            f"no prompt of split {split or 'any'}, category {category or 'any'}: the file has "
            + ", ".join(f"{x}/{y}" for x, y in has)
        )
    return chosen


def _parse(text: str, source: str) -> list[Prompt]:
    # not splitlines(): it also splits at separators that a prompt may well contain
    lines = [(x, y) for x, y in enumerate(text.split("\n"), 1) if y.strip()]
    if not lines:
        raise InputError(f"{source}: expected at least one prompt, got an empty file")
    return [_prompt(line, number, source) for number, line in lines]


def _prompt(line: str, number: int, source: str) -> Prompt:
    if not line.lstrip().startswith("{"):
        return Prompt(f"line-{number}", OWN, OWN, line.strip())
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{source}, line {number}: expected JSON, got: {error}") from error
    fields = {"id": f"line-{number}", "category": OWN, "split": OWN} | row
    values = [fields.get(x) for x in ("id", "category", "split", "prompt")]
    if not all(isinstance(x, str) and x.strip() and _is_unicode(x) for x in values):
        raise InputError(
            f'{source}, line {number}: expected {{"prompt": "text"}} with optional id, category '
            f"and split as non-empty strings, got {line[:60]!r}"
        )
    return Prompt(*values)


def _is_unicode(text: str) -> bool:
    """Whether no half of a surrogate pair is in it: JSON can spell one, no tokenizer takes it."""
    return not any("\ud800" <= x <= "\udfff" for x in text)

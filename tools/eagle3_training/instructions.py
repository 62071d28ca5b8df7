"""What the target is asked: tasks times topics, real texts, and messages that it writes itself.

Pure: number and seed give the instruction, so that a stopped run goes on where it was.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SEEDS = Path(__file__).parent / "seeds.toml"
OWN = "own"
NUMBERS = (2, 99)
# Share of each kind. What few topics serve is asked more rarely, as it would soon repeat itself.
SHARES = {
    OWN: 30,
    "prose": 20,
    "source": 12,
    "explain": 12,
    "code": 10,
    "writing": 12,
    "arithmetic": 4,
    "advice": 4,
    "travel": 2,
}


@dataclass(frozen=True)
class Instruction:
    """A user's message; of an incomplete one the target writes the rest."""

    kind: str
    text: str
    complete: bool = True


@dataclass(frozen=True)
class Seeds:
    """Templates by kind, lists of topics, and beginnings of messages.

    templates: kind to (lists it draws its topic from, ways to ask).
    """

    templates: Mapping[str, tuple[Sequence[str], Sequence[str]]]
    topics: Mapping[str, Sequence[str]]
    openings: Sequence[str]

    @cached_property
    def kinds(self) -> list[str]:
        """Kinds for which there is at least one topic, the target's own messages among them."""
        own = [x for x, (lists, _) in self.templates.items() if any(self._pool(lists))]
        return [OWN, *own]

    def _pool(self, lists: Sequence[str]) -> list[str]:
        return [y for x in lists for y in self.topics.get(x, ())]

    def draw(self, number: int, seed: int) -> Instruction:
        """The instruction of this number; the same for the same seed and lists."""
        source = random.Random(f"{seed}/{number}")
        kind = source.choices(self.kinds, [SHARES[x] for x in self.kinds])[0]
        if kind == OWN:
            return Instruction(OWN, source.choice(self.openings), complete=False)
        lists, ways = self.templates[kind]
        topic = source.choice(self._pool(lists))
        if kind == "arithmetic":
            topic = topic.format(**{x: source.randint(*NUMBERS) for x in "abc"})
        return Instruction(kind, source.choice(ways).replace("{topic}", topic))


def read_seeds(prose: Sequence[str], source: Sequence[str], path: Path = SEEDS) -> Seeds:
    """The lists of a file, with passages of prose and functions as further topics."""
    read = tomllib.loads(path.read_text("utf-8"))
    templates = {x: (tuple(y["topics"]), tuple(y["ask"])) for x, y in read["tasks"].items()}
    topics = {**read["topics"], "prose": prose, "source": source}
    return Seeds(templates, topics, tuple(read["openings"]))

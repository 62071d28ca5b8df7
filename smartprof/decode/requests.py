"""Requests of a run and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """One prompt to decode: token ids, and the workload it belongs to."""

    prompt_id: str
    category: str
    split: str
    tokens: tuple[int, ...]
    max_new_tokens: int


@dataclass
class Progress:
    """A request being decoded: its output so far and whether it has ended."""

    request: Request
    index: int  # position in the order of arrival
    output: list[int] = field(default_factory=list)
    ended: bool = False

    @property
    def context_len(self) -> int:
        """Committed tokens: prompt and output."""
        return len(self.request.tokens) + len(self.output)

    @property
    def room(self) -> int:
        """Tokens that may still be committed."""
        return self.request.max_new_tokens - len(self.output)

    def commit(self, tokens: Sequence[int], eos: frozenset[int]) -> list[int]:
        """Append tokens up to the first end of sequence or the requested length; return them."""
        kept = list(tokens[: self.room])
        for place, token in enumerate(kept):
            if token in eos:
                kept = kept[: place + 1]
                self.ended = True
                break
        self.output.extend(kept)
        self.ended = self.ended or self.room == 0
        return kept

"""Requests of a run and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from smartprof.decode.sampling import GREEDY, Sampling
from smartprof.decode.stops import Detokenise, Finder, StopFinder
from smartprof.errors import InputError


@dataclass(frozen=True)
class Request:
    """One prompt to decode: token ids, the workload it belongs to, how its tokens are chosen.

    stop: the output ends with the token that completes one of these strings.
    """

    prompt_id: str
    category: str
    split: str
    tokens: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling = GREEDY
    stop: tuple[str, ...] = ()

    def finder(self, detokenise: Detokenise | None) -> Finder | None:
        """What finds the end of the output other than an end of sequence; None: nothing does.

        Raises InputError for stop strings without `detokenise`, the text of tokens.
        """
        if not self.stop:
            return None
        if detokenise is None:
            raise InputError(
                f"request {self.prompt_id} has stop strings: expected a decoder with `detokenise`, "
                "got none"
            )
        return StopFinder(self.stop, detokenise)


@dataclass
class Progress:
    """A request being decoded: its output so far and whether it has ended.

    index: position in the order of arrival. finder: finds the request's stop strings. stopped:
    whether one of them was found.
    """

    request: Request
    index: int
    output: list[int] = field(default_factory=list)
    ended: bool = False
    finder: Finder | None = None
    stopped: bool = False

    @property
    def context_len(self) -> int:
        """Committed tokens: prompt and output."""
        return len(self.request.tokens) + len(self.output)

    @property
    def room(self) -> int:
        """Tokens that may still be committed."""
        return self.request.max_new_tokens - len(self.output)

    @cached_property
    def seed(self) -> int:
        """Of this request's noise."""
        return self.request.sampling.request_seed(self.index)

    def commit(self, tokens: Sequence[int], eos: frozenset[int]) -> list[int]:
        """Append tokens up to the first end, and return them.

        An output ends with an end of sequence, with the token that completes a stop string, or at
        the requested length.
        """
        kept = list(tokens[: self.room])
        for place, token in enumerate(kept):
            if token in eos:
                kept = kept[: place + 1]
                self.ended = True
                break
        until = self.finder.tokens_until(self.output, kept) if self.finder else None
        if until is not None:
            kept = kept[:until]
            self.ended = self.stopped = True
        self.output.extend(kept)
        self.ended = self.ended or self.room == 0
        return kept

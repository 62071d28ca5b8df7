"""Stop strings: where an output ends because of its text. Knows nothing about models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from smartprof.errors import InputError

# From token ids to text, special tokens left out: what the user will read.
Detokenise = Callable[[Sequence[int]], str]

# Tokens before the longest stop string that are detokenised with it: enough that the first
# character of the string is whole (at most 4 bytes), and that special tokens, which have no text,
# do not push it out of sight.
MARGIN = 16
REPLACEMENT = "\ufffd"


class Finder(Protocol):
    """Finds where an output ends."""

    def tokens_until(self, output: Sequence[int], new: Sequence[int]) -> int | None:
        """How many of the new tokens are kept; None: all, and the output goes on.

        output: the tokens before.
        """


class StopFinder:
    """Finds the token that completes one of the stop strings.

    A token's text is at least a byte, so a stop string of n bytes lies in the last n tokens; no
    more than these and `MARGIN` others are detokenised, however long the output is.
    """

    def __init__(self, stops: Sequence[str], detokenise: Detokenise) -> None:
        self.stops, self.detokenise = tuple(stops), detokenise
        self.most_tokens = max(len(x.encode()) for x in stops) + MARGIN

    def tokens_until(self, output: Sequence[int], new: Sequence[int]) -> int | None:
        """How many of the new tokens are kept, the one that completes a stop string included.

        None: they complete none. output: the tokens before, which hold no stop string.
        """
        before = list(output[-self.most_tokens :])
        if not self._found([*before, *new]):
            return None
        return next(x for x in range(1, len(new) + 1) if self._found([*before, *new[:x]]))

    def _found(self, tokens: Sequence[int]) -> bool:
        text = self.detokenise(tokens)
        return any(x in text for x in self.stops)


def text_before_stop(text: str, stops: Sequence[str]) -> str:
    """The text up to the first stop string in it."""
    return text[: min((text.index(x) for x in stops if x in text), default=len(text))]


def check_stops(stops: Sequence[str]) -> None:
    """Raise InputError for a stop string that would end outputs where it does not stand.

    Nothing stands everywhere, and the replacement character is what a character reads as while
    only some of its tokens are there.
    """
    for stop in stops:
        if not stop or REPLACEMENT in stop:
            raise InputError(
                "expected every stop string to have at least one character, and none of them "
                f"U+FFFD, got {stop!r}"
            )

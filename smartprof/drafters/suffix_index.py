"""What followed every short run of tokens of one growing sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

MOST_MATCHED = 8  # tokens of the longest run

Context = tuple[int, ...]


class Continuations:
    """What followed one context: token -> [count, last position], how many in all, the latest."""

    __slots__ = ("latest", "seen", "total")

    def __init__(self) -> None:
        self.seen: dict[int, list[int]] = {}
        self.total = 0
        self.latest = -1

    def add(self, token: int, position: int) -> None:
        """Count one more occurrence."""
        entry = self.seen.get(token)
        if entry is None:
            self.seen[token] = [1, position]
        else:
            entry[0] += 1
            entry[1] = position
        self.total += 1
        self.latest = token


class SuffixIndex:
    """Continuations of every run of 1 ... `MOST_MATCHED` tokens of a sequence.

    suffix: the newest tokens, at most `MOST_MATCHED`. length: tokens taken in.
    """

    def __init__(self) -> None:
        self.suffix: Context = ()
        self.length = 0
        self._table: dict[Context, Continuations] = {}

    def extend(self, tokens: Sequence[int]) -> None:
        """Take tokens in, in order; O(MOST_MATCHED) each."""
        table, suffix, position = self._table, self.suffix, self.length
        for token in tokens:
            for start in range(len(suffix)):
                context = suffix[start:]
                continuations = table.get(context)
                if continuations is None:
                    continuations = table[context] = Continuations()
                continuations.add(token, position)
            suffix = (*suffix, token)[-MOST_MATCHED:]
            position += 1
        self.suffix, self.length = suffix, position

    def matches(self, suffix: Context) -> Iterator[tuple[int, Continuations]]:
        """Match length and continuations: the longest known end of `suffix`, then the shorter ones.

        Where a match has continuations, every shorter one has them too, and possibly more.
        """
        get = self._table.get
        for start in range(len(suffix)):
            continuations = get(suffix[start:])
            if continuations is not None:
                yield len(suffix) - start, continuations

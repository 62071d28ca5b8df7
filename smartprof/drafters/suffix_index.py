"""What followed every short run of tokens of one growing sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

MOST_MATCHED = 8  # tokens of the longest context

Context = tuple[int, ...]


class Continuations:
    """What followed one context.

    seen: token -> [count, last position]. total: of all counts. most: largest count. latest: the
    newest token.
    """

    __slots__ = ("latest", "most", "seen", "total")

    def __init__(self) -> None:
        self.seen: dict[int, list[int]] = {}
        self.total = 0
        self.most = 1
        self.latest = -1

    def add(self, token: int, position: int) -> None:
        """Count one more occurrence."""
        entry = self.seen.get(token)
        if entry is None:
            self.seen[token] = [1, position]
        else:
            entry[0] += 1
            entry[1] = position
            if entry[0] > self.most:
                self.most = entry[0]
        self.total += 1
        self.latest = token


class SuffixIndex:
    """Continuations of every run of 1 ... `MOST_MATCHED` tokens of a sequence."""

    def __init__(self) -> None:
        self._suffix: Context = ()
        self._length = 0
        self._table: dict[Context, Continuations] = {}

    @property
    def suffix(self) -> Context:
        """The newest tokens, at most `MOST_MATCHED`."""
        return self._suffix

    def extend(self, tokens: Sequence[int]) -> None:
        """Take tokens in, in order; O(MOST_MATCHED) each."""
        table, suffix, position = self._table, self._suffix, self._length
        for token in tokens:
            for start in range(len(suffix)):
                context = suffix[start:]
                continuations = table.get(context)
                if continuations is None:
                    continuations = table[context] = Continuations()
                continuations.add(token, position)
            suffix = (*suffix, token)[-MOST_MATCHED:]
            position += 1
        self._suffix, self._length = suffix, position

    def matches(self, suffix: Context) -> Iterator[tuple[int, Continuations]]:
        """Match length and continuations: the longest known end of `suffix`, then the shorter ones.

        Where a match has continuations, every shorter one has them too, and possibly more.
        """
        get = self._table.get
        for start in range(len(suffix)):
            continuations = get(suffix[start:])
            if continuations is not None:
                yield len(suffix) - start, continuations

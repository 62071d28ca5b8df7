"""Shapes of captured passes: which of a fixed grid a pass runs in. Knows sizes, not tensors.

A captured graph runs one shape only, so a pass is padded up to the next shape of a grid: in tokens
(what every matrix product pays for), in tokens per request and in cache slots (what attention
pays for).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

# Wider steps where a pass takes longer anyway.
CAPTURE_SIZES = (
    *(1, 2, 4, 8, 12),
    *range(16, 64, 8),
    *range(64, 128, 16),
    *range(128, 256, 32),
    *range(256, 513, 64),
)
SHORTEST_CONTEXT = 256
COLUMN_MULTIPLE = 64  # slots per request that keep the rows of a mask aligned


@dataclass(frozen=True, order=True)
class Bucket:
    """The shape of one captured pass.

    rows: requests. tokens: packed tokens, padding included. width: padded tokens per request.
    span: slots behind the committed ones that a token may see. context: cache slots per request.
    mapped: whether packed and padded places differ; if not, tokens lie request by request.
    """

    rows: int
    tokens: int
    width: int
    span: int
    context: int
    mapped: bool


def capture_sizes(batch: int = 1) -> tuple[int, ...]:
    """Token counts that are captured at this batch size, ascending from the batch itself."""
    return (batch, *(x for x in CAPTURE_SIZES if x > batch))


def context_sizes(columns: int) -> tuple[int, ...]:
    """Cache slots that are captured: powers of two and their halves between, the last `columns`.

    columns: slots of the cache per request, its scratch slot included.
    """
    sizes, power = [], SHORTEST_CONTEXT
    while power < columns:
        sizes += [power, power + power // 2]
        power *= 2
    return (*(x for x in sizes if x < columns), columns)


def aligned_capacity(capacity: int) -> int:
    """The next capacity from this one on whose slots, the scratch slot included, are aligned."""
    return -(-(capacity + 1) // COLUMN_MULTIPLE) * COLUMN_MULTIPLE - 1


@dataclass(frozen=True)
class Grid:
    """The shapes captured for one cache.

    columns: slots of the cache per request. rows: least number of requests of a pass; smaller
    batches are padded to it, so that a run that ends does not capture anew for every batch.
    """

    columns: int
    rows: int = 1

    def bucket(
        self, *, batch: int, tokens: int, width: int, span: int, context: int, one_each: bool
    ) -> Bucket | None:
        """The smallest shape that holds a pass; None if there is none.

        batch: requests. tokens: to run, at least those there are. width: largest number of tokens
        of one request. span, context: as in `Bucket`, what the pass needs. one_each: whether every
        request has exactly one token, as in plain decoding.
        """
        rows = max(batch, self.rows)
        size = _at_least(capture_sizes(rows), tokens)
        slots = _at_least(context_sizes(self.columns), context)
        if size is None or slots is None:
            return None
        if rows == 1:
            return Bucket(1, size, size, max(size, _power_of_two(span)), slots, mapped=False)
        padded = min(_power_of_two(width), size)
        unpadded = one_each and batch == rows == size
        return Bucket(rows, size, padded, max(padded, _power_of_two(span)), slots, not unpadded)


def _at_least(sizes: tuple[int, ...], wanted: int) -> int | None:
    """The first of ascending sizes that is large enough."""
    place = bisect_left(sizes, wanted)
    return sizes[place] if place < len(sizes) else None


def _power_of_two(count: int) -> int:
    """The next power of two from `count` on."""
    return 1 << (count - 1).bit_length()

"""In which way a product of a shape runs fastest at each token count. Knows no tensors.

The ways: "plain"; "packed", with weights laid out for oneDNN; "padded", the same with a few tokens
filled up to a tile; "mkl8" and "mkl16", with weights laid out for MKL and a tile of so many tokens;
"panels", with weights laid out for functions of our own (`panels.c`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

Way = Literal["plain", "packed", "padded", "mkl8", "mkl16", "panels"]
Size = tuple[int, int]  # out, in

FULL_TILE = 4  # "padded" runs a prepacked product with so many tokens
MKL_TILES: dict[Way, int] = {"mkl8": 8, "mkl16": 16}  # MKL's own layout, for one count each
TILES: dict[Way, int] = {"padded": FULL_TILE, **MKL_TILES}
# Token counts; those between go the way of the one below. One follows each tile's own.
PROBED = (1, 2, 3, 4, 6, 8, 9, 12, 16, 17, 32, 128)
GAIN = 0.97  # another way than the prepacked one must be faster by this factor


@dataclass(frozen=True)
class Kernels:
    """How products of one shape run fastest: from `counts[i]` tokens on the way `ways[i]`.

    counts ascend from 1; neighbouring ways differ.
    """

    counts: tuple[int, ...] = (1,)
    ways: tuple[Way, ...] = ("plain",)
    _known: dict[int, Way] = field(default_factory=dict, init=False, repr=False, compare=False)

    def way(self, tokens: int) -> Way:
        """The way that so many tokens go."""
        way = self._known.get(tokens)
        if way is None:
            way = self._known[tokens] = self.ways[bisect_right(self.counts, tokens) - 1]
        return way

    @property
    def sound(self) -> bool:
        """Whether each count from 1 on has one known way, with a tile that holds the tokens."""
        lasts = [x - 1 for x in self.counts[1:]]
        return (
            len(self.counts) == len(self.ways)
            and self.counts[:1] == (1,)
            and all(x <= y for x, y in zip(self.counts, lasts, strict=False))
            and all(x in get_args(Way) for x in self.ways)
            and all(x <= TILES.get(y, x) for x, y in zip(lasts, self.ways, strict=False))
            and self.ways[-1] not in TILES
        )

    def __str__(self) -> str:
        """For a person: "padded from 1, packed from 3 tokens"."""
        steps = [f"{way} from {count}" for count, way in zip(self.counts, self.ways, strict=True)]
        return ", ".join(steps) + " tokens" if len(steps) > 1 else self.ways[0]


def choose_kernels(seconds: Mapping[int, Mapping[Way, float]]) -> Kernels:
    """The fastest way for each count; the prepacked one unless another gains enough.

    seconds: {tokens: {way: seconds}}, tokens ascending from 1.
    """
    counts: list[int] = []
    ways: list[Way] = []
    for tokens, by_way in seconds.items():
        best = min(by_way, key=lambda x: by_way[x])
        way: Way = best if by_way[best] < GAIN * by_way["packed"] else "packed"
        if not ways or way != ways[-1]:
            counts.append(tokens)
            ways.append(way)
    return Kernels(tuple(counts), tuple(ways))


def ways_at(tokens: int, further: Sequence[Way]) -> list[Way]:
    """What to measure at so many tokens: a tile is worth filling up from its half on.

    further: ways that not every machine has.
    """
    ways: list[Way] = ["plain", "packed"]
    if tokens < FULL_TILE:
        ways.append("padded")
    most = {x: MKL_TILES.get(x, tokens) for x in further}
    return ways + [x for x in further if most[x] // 2 < tokens <= most[x]]

"""A tree without tokens: how many children each place has. What a fixed tree is written as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

MOST_NODES = 512  # of a tree that is read from text
LAYERS, PLACES = "/", "+"  # what separates layers and the places of a layer in text


@dataclass(frozen=True)
class TreeShape:
    """Places of a tree, numbered layer by layer from the root, which is 0.

    A place stands for "the r-th most probable child of that other place", so the children of a
    place are its first ranks and a number of children says which.
    branches: per layer from the root's, the number of children of each of its places. The last
    layer that has children is the last of the tuple; ``()`` is the root alone.

    Examples
    --------
    A root with three children, of which the first two have two and one:

    >>> shape = TreeShape.parse("3/2+1")
    >>> shape.size, shape.depth, shape.branches
    (6, 2, ((3,), (2, 1, 0)))
    >>> str(shape)
    '3/2+1'
    """

    branches: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, layers: Sequence[Sequence[int]]) -> TreeShape:
        """From counts per layer; places at a layer's end may be left out, they have no children.

        Raises ValueError for a negative count or one of a place that does not exist.
        """
        branches: list[tuple[int, ...]] = []
        width = 1
        for number, given in enumerate(layers):
            if len(given) > width:
                raise ValueError(
                    f"expected at most {width} numbers for layer {number}, one for each of its "
                    f"places, got {len(given)}"
                )
            if min(given, default=0) < 0:
                raise ValueError(f"expected numbers of children from 0, got {min(given)}")
            branches.append((*given, *[0] * (width - len(given))))
            width = sum(given)
        while branches and not any(branches[-1]):
            branches.pop()
        return cls(tuple(branches))

    @classmethod
    def parse(cls, text: str) -> TreeShape:
        """From text such as ``3/2+1``: layers, and in each the children of its places in order.

        Raises ValueError, one line, for anything else, and for more than `MOST_NODES` nodes.
        """
        layers = [x.split(PLACES) for x in text.split(LAYERS)]
        if not all(y.isascii() and y.isdigit() for x in layers for y in x):
            raise ValueError(
                f"{text!r} is no tree: expected numbers of children such as 3/2+1, one layer after "
                "the other"
            )
        counts = [[int(y) for y in x] for x in layers]
        size = sum(map(sum, counts))
        if size > MOST_NODES:
            raise ValueError(f"{text!r} is too large: expected {MOST_NODES} nodes, got {size}")
        try:
            return cls.of(counts)
        except ValueError as error:
            raise ValueError(f"{text!r} is no tree: {error}") from None

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return LAYERS.join(PLACES.join(map(str, _trimmed(x))) for x in self.branches) or "0"

    @property
    def size(self) -> int:
        """Places beside the root."""
        return sum(map(sum, self.branches))

    @property
    def depth(self) -> int:
        """Of the deepest place; 0 for the root alone."""
        return len(self.branches)

    @property
    def expanded(self) -> tuple[int, ...]:
        """How many places of each layer have children, root's layer first."""
        return tuple(sum(y > 0 for y in x) for x in self.branches)

    @cached_property
    def children(self) -> NDArray[np.int64]:
        """int64 [size + 1]: children of each place."""
        inner = [y for x in self.branches for y in x]
        return np.array(inner + [0] * (self.size + 1 - len(inner)), np.int64)

    @cached_property
    def first_child(self) -> NDArray[np.int64]:
        """int64 [size + 1]: the place of each place's first child; its others follow."""
        return 1 + self.children.cumsum() - self.children


def _trimmed(counts: tuple[int, ...]) -> tuple[int, ...]:
    """Without the zeros at the end; never called for zeros alone."""
    last = max(i for i, x in enumerate(counts) if x)
    return counts[: last + 1]

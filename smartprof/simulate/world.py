"""What a simulated batch needs: requests, a target that is a record, and a drafter that is one.

The round loop is the decoder's own (`decode.rounds`); only these three are stand-ins.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from smartprof.decode.requests import Progress, Request
from smartprof.decode.stops import Detokenise
from smartprof.drafters.base import Drafter
from smartprof.trees.forest import Forest
from smartprof.trees.packed import Accepted, PackedTrees

Ids = NDArray[np.int64]
END = -1  # what the target says behind the end of an output; no draft token is this


@dataclass(frozen=True)
class KnownEnd:
    """Finds the end of an output of known length."""

    length: int

    def tokens_until(self, output: Sequence[int], new: Sequence[int]) -> int | None:
        """As many of the new tokens as there are left, if these reach the end."""
        left = self.length - len(output)
        return left if len(new) >= left else None


@dataclass(frozen=True)
class SimulatedRequest(Request):
    """A request whose output is known. tokens: as many as the prompt has, of no meaning.

    number: its place in the world. length: of the output.
    """

    number: int = 0
    length: int = 0

    def finder(self, detokenise: Detokenise | None) -> KnownEnd:
        """Ends the output where it ended."""
        return KnownEnd(self.length)


class World(Protocol):
    """Requests with all that can happen to them.

    label: where outcomes come from, for headings. sources: of the drafter, as in a profile.
    """

    @property
    def label(self) -> str:
        """One line."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Names, the cheapest first."""

    @property
    def requests(self) -> Sequence[SimulatedRequest]:
        """All of them, by number."""

    def says(self, number: Ids, place: Ids) -> Ids:
        """The target's own token at each place of an output, int64 [k]; `END` behind its end."""

    def drafter(self, target: SimulatedTarget) -> SimulatedDrafter:
        """A fresh drafter for the rows of this target."""


class SimulatedTarget:
    """A `Verifier` that repeats what is known of each request's output; takes no time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.numbers: dict[int, int] = {}  # of the request in each row

    def clock(self) -> float:
        """Stands still: seconds are the profile's."""
        return 0.0

    def synchronise(self) -> None:
        """Nothing runs."""

    def attach(self, drafter: Drafter) -> None:
        """There is no cache to read."""

    def admit(self, row: int, request: Request) -> None:
        """Note which request is in the row."""
        assert isinstance(request, SimulatedRequest)
        self.numbers[row] = request.number

    def move(self, source: int, target: int, context_len: int) -> None:
        """Note the new row."""
        self.numbers[target] = self.numbers.pop(source)

    def choose(
        self, rows: Sequence[Progress], trees: PackedTrees, context_lens: Ids, pad_to: int
    ) -> Ids:
        """The known token at each node's depth: right for nodes on the target's own path.

        What it says of others does not matter, because no accepted path leads there.
        """
        number = np.array([self.numbers[x] for x in range(len(rows))])
        place = np.array([len(x.output) for x in rows])
        return self.world.says(number[trees.request], place[trees.request] + trees.depth)

    def keep(self, trees: PackedTrees, accepted: Accepted, context_lens: Ids) -> None:
        """There is no cache to keep it in."""


@dataclass
class Seat:
    """A row. position: tokens of the output so far. noted: int64 [S], not yet taken in."""

    number: int
    position: int
    noted: Ids


class SimulatedDrafter(Drafter):
    """Keeps the rows; a subclass knows the proposals.

    A source takes in what was committed when roots are expanded with it or with a fuller one.
    asked, missing: expansions so far, and those of which nothing is known.
    """

    digest = "simulated"
    kind = "simulated"

    def __init__(self, world: World, target: SimulatedTarget) -> None:
        self.world, self.target = world, target
        self.name = world.sources[-1]
        self.asked = self.missing = 0
        self.source = len(world.sources) - 1
        self.seats: dict[int, Seat] = {}

    @property
    def sources(self) -> tuple[str, ...]:
        """Those of the world."""
        return self.world.sources

    @abstractmethod
    def pending_of(self, number: int) -> Ids:
        """int64 [S]: tokens that the sources have yet to take in of a request just admitted."""

    @abstractmethod
    def right_below(self, source: str) -> Ids:
        """int64 [B]: how many right tokens in a row the source proposes from each root on."""

    def begin(self, source: str) -> None:
        """Propose what this source does."""
        self.source = self.sources.index(source)

    def pending(self, source: str) -> int:
        """Tokens noted by the rows."""
        place = self.sources.index(source)
        return sum(int(x.noted[place]) for x in self.seats.values())

    def admit(self, row: int, tokens: Sequence[int]) -> None:
        """Take the request that the target has in this row."""
        number = self.target.numbers[row]
        self.seats[row] = Seat(number, 0, self.pending_of(number).copy())

    def commit(self, row: int, tokens: Sequence[int]) -> None:
        """Go on by so many tokens."""
        seat = self.seats[row]
        seat.position += len(tokens)
        seat.noted += len(tokens)

    def release(self, row: int) -> None:
        """Forget a row."""
        del self.seats[row]

    def move(self, source: int, target: int) -> None:
        """Change rows."""
        self.seats[target] = self.seats.pop(source)

    def take_in(self, roots: Ids) -> None:
        """The catch-up of these rows with the present source."""
        for root in roots.tolist():
            self.seats[root].noted[: self.source + 1] = 0

    @property
    def numbers(self) -> Ids:
        """int64 [B]: requests by row."""
        return np.array([self.seats[x].number for x in range(len(self.seats))])

    @property
    def positions(self) -> Ids:
        """int64 [B]: tokens of the outputs so far, by row."""
        return np.array([self.seats[x].position for x in range(len(self.seats))])

    def on_path(self, forest: Forest) -> NDArray[np.bool_]:
        """bool [n]: nodes on the target's own path, roots included."""
        place = self.positions[forest.request] + forest.depth - 1
        right = forest.token == self.world.says(self.numbers[forest.request], place)
        right[: forest.num_requests] = True
        for depth in range(1, int(forest.depth.max()) + 1):
            layer = (forest.depth == depth).nonzero()[0]
            right[layer] &= right[forest.parent[layer]]
        return right

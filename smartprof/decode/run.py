"""Policies side by side: every policy decodes the same requests, a few rounds at a time in turn.

Each policy is a lane with its own cache and queue. The lane that has produced the fewest tokens
runs the next rounds, so all lanes see the same minutes of the machine, and their ratios do not
depend on what else it was doing. The first round of a turn finds the caches of the processor as
another policy left them, which no policy that runs alone does, and which costs small passes most:
it decodes, but is not counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from smartprof.decode.records import Equality, RoundRecord
from smartprof.decode.requests import Progress, Request
from smartprof.decode.rounds import Decoder
from smartprof.trees.reliability import AcceptanceRecord

TURN_ROUNDS = 8


@dataclass
class Lane:
    """One policy working through a queue of requests at a fixed batch size."""

    label: str
    decoder: Decoder
    batch: int
    queue: deque[tuple[int, Request]]
    settled: list[RoundRecord] = field(default_factory=list)
    unsettled: list[RoundRecord] = field(default_factory=list)  # each the first of a turn
    finished: list[Progress] = field(default_factory=list)
    prefill_seconds: float = 0.0
    tokens: int = 0

    @property
    def done(self) -> bool:
        """Nothing queued and nothing in flight."""
        return not self.queue and not self.decoder.batch

    @property
    def counted(self) -> list[RoundRecord]:
        """Rounds with a full batch; the first ones of turns only where there are no others."""
        return self.settled or self.unsettled

    def step(self, settled: bool) -> None:
        """Fill free rows and run one round. settled: the round before it was this lane's too."""
        while self.queue and self.decoder.batch < self.batch:
            index, request = self.queue.popleft()
            self.prefill_seconds += self.decoder.admit(request, index)
        record = self.decoder.round()
        self.tokens += int(record.committed.sum())
        if len(record.committed) == self.batch:
            (self.settled if settled else self.unsettled).append(record)
        self.finished += self.decoder.retire()


@dataclass(frozen=True)
class LaneResult:
    """One policy's run over the prompts of one category at one batch size.

    records: counted rounds (see `Lane.counted`). outputs: every finished request.
    equality: None where it was not checked (the dtype leaves no exact reference).
    acceptance: what the drafter recorded, None if it keeps no record.
    """

    policy: str
    drafter: str
    batch: int
    split: str
    category: str
    records: Sequence[RoundRecord]
    outputs: Sequence[Progress]
    equality: Equality | None
    prefill_seconds: float
    acceptance: AcceptanceRecord | None = None


def cycled(requests: Sequence[Request], batch: int) -> deque[tuple[int, Request]]:
    """A queue of the requests in order, repeated to at least three times the batch."""
    count = max(len(requests), 3 * batch if batch > 1 else 1)
    return deque((i, requests[i % len(requests)]) for i in range(count))


def run_lanes(lanes: Sequence[Lane], on_step: Callable[[Lane], None]) -> None:
    """Run all lanes to their end, always the one with the fewest tokens next."""
    before = lanes[0] if len(lanes) == 1 else None
    while waiting := [x for x in lanes if not x.done]:
        lane = min(waiting, key=lambda x: x.tokens)
        for _ in range(TURN_ROUNDS):
            lane.step(settled=lane is before)
            before = lane
            on_step(lane)
            if lane.done:
                break

"""Policies side by side: every policy decodes the same requests, a round at a time in turn.

Each policy is a lane with its own cache and queue. The lane that has produced the fewest tokens
runs the next round, so all lanes see the same minutes of the machine, and their ratios do not
depend on what else it was doing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from smartprof.decode.records import Equality, RoundRecord
from smartprof.decode.requests import Progress, Request
from smartprof.decode.rounds import Decoder
from smartprof.trees.reliability import AcceptanceRecord


@dataclass
class Lane:
    """One policy working through a queue of requests at a fixed batch size."""

    label: str
    decoder: Decoder
    batch: int
    queue: deque[tuple[int, Request]]
    counted: list[RoundRecord] = field(default_factory=list)
    finished: list[Progress] = field(default_factory=list)
    prefill_seconds: float = 0.0
    tokens: int = 0

    @property
    def done(self) -> bool:
        """Nothing queued and nothing in flight."""
        return not self.queue and not self.decoder.batch

    def step(self) -> None:
        """Fill free rows and run one round; only rounds with a full batch are counted."""
        while self.queue and self.decoder.batch < self.batch:
            index, request = self.queue.popleft()
            self.prefill_seconds += self.decoder.admit(request, index)
        record = self.decoder.round()
        self.tokens += int(record.committed.sum())
        if len(record.committed) == self.batch:
            self.counted.append(record)
        self.finished += self.decoder.retire()


@dataclass(frozen=True)
class LaneResult:
    """One policy's run over the prompts of one category at one batch size.

    records: counted rounds, those with a full batch. outputs: every finished request.
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
    while waiting := [x for x in lanes if not x.done]:
        lane = min(waiting, key=lambda x: x.tokens)
        lane.step()
        on_step(lane)

"""From simulated lanes to the lines of a report, and their JSON. Nothing here was timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from smartprof.report.summary import Run, Share, summarise_runs
from smartprof.simulate.run import SimulatedLane


@dataclass(frozen=True)
class SimulatedRun:
    """One line of the report; seconds are the profile's throughout.

    setting: which fixed setting `oracle-static` is. context: tokens per request that were charged
    for; None: as many as the requests had. speedup_low, speedup_high: 95 % bootstrap interval over
    prompts. share: of drafting, verifying and the rest. missing: share of the expansions asked for
    that the trace does not have. Others as of `Run`.
    """

    policy: str
    setting: str | None
    drafter: str
    batch: int
    context: int | None
    split: str
    tokens: int
    seconds: float
    tokens_per_second: float
    speedup: float
    speedup_low: float
    speedup_high: float
    accepted_per_round: float
    tree_size: float
    draft_steps: float
    share: Share
    missing: float
    requests: int
    rounds: int


def summarise_simulated(lanes: Sequence[SimulatedLane]) -> list[SimulatedRun]:
    """One line per lane. Every batch and context must hold a lane named "plain"."""
    found = []
    for context in dict.fromkeys(x.context for x in lanes):
        own = [x for x in lanes if x.context == context]
        pooled = [x for x in summarise_runs([y.result for y in own], True) if x.category is None]
        by_place = {(x.policy, x.batch): x for x in pooled}
        found += [_line(x, by_place[x.result.policy, x.result.batch]) for x in own]
    return found


def simulated_report(
    runs: Sequence[SimulatedRun], heading: str, facts: dict[str, Any]
) -> dict[str, Any]:
    """The contract of `simulate --json`: what was simulated, and {"runs": [...]}, one per line."""
    return {"simulated": True, "heading": heading, **facts, "runs": [asdict(x) for x in runs]}


def _line(lane: SimulatedLane, run: Run) -> SimulatedRun:
    # lanes whose seconds are the profile's have every measured field
    assert run.seconds is not None and run.tokens_per_second is not None and run.share is not None
    assert run.speedup is not None
    assert run.speedup_low is not None and run.speedup_high is not None
    return SimulatedRun(
        policy=run.policy,
        setting=lane.setting,
        drafter=run.drafter,
        batch=run.batch,
        context=lane.context,
        split=run.split,
        tokens=run.tokens,
        seconds=run.seconds,
        tokens_per_second=run.tokens_per_second,
        speedup=run.speedup,
        speedup_low=run.speedup_low,
        speedup_high=run.speedup_high,
        accepted_per_round=run.accepted_per_round,
        tree_size=run.tree_size,
        draft_steps=run.draft_steps,
        share=run.share,
        missing=lane.missing,
        requests=run.requests,
        rounds=run.rounds,
    )

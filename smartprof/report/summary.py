"""From round records to the figures of a report. Pure arithmetic on what was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smartprof.decode.records import Equality
from smartprof.decode.run import LaneResult
from smartprof.stats import bootstrap_interval
from smartprof.trees.reliability import NO_EVENTS

RESAMPLES = 2000
LOOP_REPEATS = 3  # an output loops when its end is one passage at least this many times over,
LOOP_TOKENS = 24  # covering at least this many tokens


@dataclass(frozen=True)
class Share:
    """Parts of the wall clock of counted rounds; they sum to 1."""

    draft: float
    verify: float
    overhead: float


@dataclass(frozen=True)
class Run:
    """One line of the report. None: not measured, which is never the same as 0.

    category: None for all of them together.
    seconds, tokens_per_second, speedup, share: wall clock, of counted rounds, prefill apart.
    modelled_speedup: the same rounds priced by the profile, plain decoding likewise.
    speedup_low, speedup_high: 95 % bootstrap interval over prompts.
    accepted_per_round, tree_size, draft_steps: means over requests of per-round means; the tree
    size counts the root.
    calibration_error: expected calibration error, in [0, 1], of the path probabilities of the
    verified nodes, roots aside, against what was accepted, in all rounds.
    """

    policy: str
    drafter: str
    batch: int
    split: str
    category: str | None
    tokens: int
    seconds: float | None
    tokens_per_second: float | None
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    modelled_speedup: float
    modelled_tokens_per_second: float
    accepted_per_round: float
    tree_size: float
    draft_steps: float
    share: Share | None
    identical: bool | None
    ties: int | None
    requests: int
    rounds: int
    prefill_seconds: float | None
    looping_share: float
    speedup_without_loops: float | None
    verified_nodes: int
    calibration_error: float | None


@dataclass(frozen=True)
class _PerRequest:
    """Sums over the counted rounds of each request, in order of arrival: float [requests].

    A round's seconds are shared equally by the requests of its batch.
    """

    prompt: NDArray[np.str_]
    tokens: NDArray[np.float64]
    seconds: NDArray[np.float64]
    modelled: NDArray[np.float64]
    rounds: NDArray[np.float64]
    accepted: NDArray[np.float64]
    tree_size: NDArray[np.float64]
    draft_steps: NDArray[np.float64]
    loops: NDArray[np.bool_]


def summarise_runs(results: Sequence[LaneResult], device_match: bool) -> list[Run]:
    """One run per policy and batch over all categories, then one per category.

    Every (batch, category) must hold a lane named "plain": it is the reference. With `device_match`
    False the wall clock says nothing about the profile's device, and measured fields are None.
    """
    runs = []
    for policy, batch in dict.fromkeys((x.policy, x.batch) for x in results):
        own = [x for x in results if (x.policy, x.batch) == (policy, batch)]
        plain = [x for x in results if (x.policy, x.batch) == ("plain", batch)]
        runs.append(_run(own, plain, None, device_match))
        for category in dict.fromkeys(x.category for x in own):
            pairs = [[x for x in lanes if x.category == category] for lanes in (own, plain)]
            runs.append(_run(pairs[0], pairs[1], category, device_match))
    return runs


def loops(output: Sequence[int]) -> bool:
    """Whether the output ends in one passage repeated over and over."""
    tokens = np.asarray(output)
    for period in range(1, len(tokens) // LOOP_REPEATS + 1):
        span = max(LOOP_REPEATS * period, LOOP_TOKENS)
        if span <= len(tokens) and np.array_equal(tokens[-span:-period], tokens[-span + period :]):
            return True
    return False


def _run(
    own: Sequence[LaneResult], plain: Sequence[LaneResult], category: str | None, device_match: bool
) -> Run:
    mine, reference = _per_request(own), _per_request(plain)
    selected = sum((x.acceptance.selected for x in own if x.acceptance), NO_EVENTS)
    first, modelled = own[0], float(mine.tokens.sum() / mine.modelled.sum())
    speedup, low, high, straight = _speedups(mine, reference) if device_match else (None,) * 4
    checks = [x.equality for x in own]
    equality = None if None in checks else sum((x for x in checks if x), Equality(0, 0, 0))
    counted = mine.rounds > 0
    per_round = mine.rounds[counted]
    return Run(
        policy=first.policy,
        drafter=first.drafter,
        batch=first.batch,
        split=first.split,
        category=category,
        tokens=int(mine.tokens.sum()),
        seconds=float(mine.seconds.sum()) if device_match else None,
        tokens_per_second=float(mine.tokens.sum() / mine.seconds.sum()) if device_match else None,
        speedup=speedup,
        speedup_low=low,
        speedup_high=high,
        modelled_speedup=modelled / float(reference.tokens.sum() / reference.modelled.sum()),
        modelled_tokens_per_second=modelled,
        accepted_per_round=float(np.mean(mine.accepted[counted] / per_round)),
        tree_size=float(np.mean(mine.tree_size[counted] / per_round)),
        draft_steps=float(np.mean(mine.draft_steps[counted] / per_round)),
        share=_share(own) if device_match else None,
        identical=equality.identical if equality else None,
        ties=equality.ties if equality else None,
        requests=len(mine.prompt),
        rounds=sum(len(x.records) for x in own),
        prefill_seconds=sum(x.prefill_seconds for x in own) if device_match else None,
        looping_share=float(np.mean(mine.loops)),
        speedup_without_loops=straight,
        verified_nodes=selected.size,
        calibration_error=selected.error,
    )


def _speedups(
    mine: _PerRequest, reference: _PerRequest
) -> tuple[float, float, float, float | None]:
    """Speedup, its interval over prompts, and the speedup where plain output is no loop."""
    prompts = np.unique(np.concatenate([mine.prompt, reference.prompt]))
    columns = [
        [values[lane.prompt == x].sum() for x in prompts]
        for lane in (mine, reference)
        for values in (lane.tokens, lane.seconds)
    ]
    table = np.array(columns).T  # [prompts, (tokens, seconds) of mine, then of the reference]
    low, high = bootstrap_interval(table, _pooled_speedup, RESAMPLES)
    looping = np.isin(prompts, reference.prompt[reference.loops])
    straight = None if looping.all() else float(_pooled_speedup(table[None, ~looping])[0])
    return float(_pooled_speedup(table[None])[0]), low, high, straight


def _pooled_speedup(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ratio of pooled rates: table [resamples, prompts, 4] to [resamples]."""
    tokens, seconds, plain_tokens, plain_seconds = np.moveaxis(table.sum(axis=1), -1, 0)
    return (tokens / seconds) / (plain_tokens / plain_seconds)


def _share(lanes: Sequence[LaneResult]) -> Share:
    records = [x for lane in lanes for x in lane.records]
    total = sum(x.seconds for x in records)
    draft = sum(x.draft_seconds for x in records) / total
    verify = sum(x.verify_seconds for x in records) / total
    return Share(draft, verify, 1 - draft - verify)


def _per_request(lanes: Sequence[LaneResult]) -> _PerRequest:
    parts = [_one_lane(x) for x in lanes]
    names = _PerRequest.__dataclass_fields__
    return _PerRequest(**{x: np.concatenate([getattr(y, x) for y in parts]) for x in names})


def _one_lane(lane: LaneResult) -> _PerRequest:
    ordered = sorted(lane.outputs, key=lambda x: x.index)
    columns: Mapping[str, NDArray[np.float64]] = {
        x: np.zeros(len(ordered))
        for x in ("tokens", "seconds", "modelled", "rounds", "accepted", "tree_size", "draft_steps")
    }
    for record in lane.records:
        at, batch = record.requests, len(record.requests)
        columns["tokens"][at] += record.committed
        columns["seconds"][at] += record.seconds / batch
        columns["modelled"][at] += record.modelled_seconds / batch
        columns["rounds"][at] += 1
        columns["accepted"][at] += record.accepted
        columns["tree_size"][at] += record.tree_size
        columns["draft_steps"][at] += record.draft_steps
    return _PerRequest(
        prompt=np.array([x.request.prompt_id for x in ordered]),
        loops=np.array([loops(x.output) for x in ordered]),
        **columns,
    )

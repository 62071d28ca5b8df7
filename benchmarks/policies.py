"""Every policy against plain decoding and against the best fixed setting, on real text.

    python benchmarks/policies.py --profile PROFILE [--batch 1,2,4,8,16] [--per-category 3]
        [--max-new-tokens 96] [--json FILE]

1. On the development prompts: trees are recorded at every position, a grid of fixed settings (chain
   of 1 to 8, EAGLE-2 with 4 to 60 nodes and depth 1 to 6) is ranked by `simulate` for each batch,
   and the best few of each batch are decoded there. The fastest is that batch's fixed setting.
2. On the held-out prompts: `smart`, its rivals as published and all these fixed settings are
   decoded in one interleaved run for each batch. Nothing was chosen on these prompts.

Bars: `smart` at every batch at least 0.98 of plain decoding and of that batch's fixed setting, and
on average over batches more than 1.03 of the best single fixed setting; modelled against measured
speedups within 8 % (median) with a bias of at most 3 %. `smart-paper`, `cap` and `eagle2:m=60`
stand in the table as they come out. Speeds are ratios within one run, with 95 % intervals over
prompts.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from smartprof.commands import DecodeReport, DecodeRequest, decode_report
from smartprof.decode.record import TraceSize
from smartprof.decode.sampling import GREEDY
from smartprof.profile.cost import CostModel
from smartprof.profile.files import find_profile, load_profile
from smartprof.report.json_files import runs_report, write_json
from smartprof.report.summary import Run
from smartprof.simulate.oracle import STATIC_GRID
from smartprof.simulate.replay import RecordedWorld
from smartprof.simulate.run import Study, simulate
from smartprof.trees.recording import Recording

PUBLISHED = ("smart-paper", "cap", "eagle2:m=60:depth=6:k=10")
RECORDED = TraceSize(width=8, depth=8)
RECORDING_BATCH = 8
TRIED = 3  # fixed settings of each batch that are decoded on the development prompts


@dataclass(frozen=True)
class Asked:
    """The options."""

    profile: str
    batches: tuple[int, ...]
    per_category: int | None
    tokens: int


def decoded(
    asked: Asked,
    split: str,
    policies: Sequence[str],
    batches: Sequence[int],
    trace_size: TraceSize | None = None,
) -> DecodeReport:
    """Prompts of all categories sharing batches."""
    request = DecodeRequest(
        profile=asked.profile,
        policies=tuple(policies),
        batches=tuple(batches),
        gpu="auto",
        target="smollm2",
        drafter="auto",
        dtype=None,
        execution="auto",
        prompts=None,
        split=split,
        category=None,
        per_category=asked.per_category,
        max_new_tokens=asked.tokens,
        chat=True,
        mixed=True,
        sampling=GREEDY,
        stop=(),
        require_measured=True,
        trace_size=trace_size,
        files=(),
        force=False,
    )
    with Progress(disable=True) as progress:
        return decode_report(request, lambda x: print(f"  {x}", flush=True), progress)


def ranked(asked: Asked, recording: Recording) -> dict[int, list[str]]:
    """The best fixed settings of each batch, by simulation."""
    world = RecordedWorld(recording)
    costs = CostModel(load_profile(find_profile(asked.profile)), world.sources[-1])
    found = {}
    for batch in asked.batches:
        rates = {}
        for policy in STATIC_GRID:
            *_, lane = simulate(world, costs, Study((policy,), (batch,)))
            rates[policy] = lane.rate
        found[batch] = sorted(rates, key=lambda x: -rates[x])[:TRIED]
    return found


def line_of(runs: Sequence[Run], policy: str, batch: int) -> Run:
    """The line over all prompts."""
    (found,) = [x for x in runs if (x.policy, x.batch, x.category) == (policy, batch, None)]
    return found


def fixed_settings(asked: Asked) -> dict[int, str]:
    """For each batch the fixed setting that is fastest on the development prompts."""
    recorded = decoded(asked, "development", ["plain"], [RECORDING_BATCH], RECORDED).recording
    assert recorded is not None
    chosen = {}
    for batch, candidates in ranked(asked, recorded).items():
        print(f"batch {batch}: simulated best {', '.join(candidates)}", flush=True)
        runs = decoded(asked, "development", candidates, [batch]).runs
        rates = {x: line_of(runs, x, batch).tokens_per_second or 0.0 for x in candidates}
        chosen[batch] = max(rates, key=lambda x: rates[x])
        print(f"batch {batch}: decoded best {chosen[batch]}", flush=True)
    return chosen


def print_table(runs: Sequence[Run], policies: Sequence[str], batches: Sequence[int]) -> None:
    """Markdown: one line per policy and batch."""
    print("| policy | batch | tok/s | speedup (95 %) | modelled | accepted | tree | identical |")
    print("|---|---|---|---|---|---|---|---|")
    for batch in batches:
        for policy in policies:
            run = line_of(runs, policy, batch)
            print(
                f"| {policy} | {batch} | {run.tokens_per_second:.1f} | {run.speedup:.2f} "
                f"({run.speedup_low:.2f}-{run.speedup_high:.2f}) | {run.modelled_speedup:.2f} | "
                f"{run.accepted_per_round:.2f} | {run.tree_size:.1f} | "
                f"{'yes' if run.identical else 'NO'} |"
            )


def print_verdict(
    runs: Sequence[Run], fixed: dict[int, str], policies: Sequence[str], batches: Sequence[int]
) -> None:
    """The bars, one by one."""
    speed = {(x.policy, x.batch): x.speedup or 0.0 for x in runs if x.category is None}
    for batch in batches:
        mine, own = speed["smart", batch], speed[fixed[batch], batch]
        print(
            f"batch {batch}: smart {mine:.3f} of plain (bar 0.98), {mine / own:.3f} of "
            f"{fixed[batch]} (bar 0.98)"
        )
    gains = {
        x: statistics.mean(speed["smart", b] / speed[x, b] for b in batches)
        for x in dict.fromkeys(fixed.values())
    }
    best = min(gains, key=lambda x: gains[x])
    print(f"on average {gains[best]:.3f} of the best single fixed setting, {best} (bar 1.03)")
    errors = [
        (x.modelled_speedup / x.speedup - 1) * 100
        for x in runs
        if x.category is None and x.policy != "plain" and x.speedup
    ]
    own = [
        (x.modelled_speedup / x.speedup - 1) * 100
        for x in runs
        if x.category is None and x.policy == "smart" and x.speedup
    ]
    print(
        f"modelled against measured, {len(errors)} lines: median absolute error "
        f"{statistics.median(map(abs, errors)):.1f} % (bar 8), bias {statistics.mean(errors):+.1f} "
        f"% (bar 3); smart alone {statistics.median(map(abs, own)):.1f} %, "
        f"{statistics.mean(own):+.1f} %"
    )


def main() -> None:
    """Choose on development prompts, compare on held-out ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", required=True)
    parser.add_argument("--batch", default="1,2,4,8,16")
    parser.add_argument("--per-category", type=int, default=3)
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    batches = tuple(int(x) for x in options.batch.split(","))
    asked = Asked(options.profile, batches, options.per_category, options.max_new_tokens)
    fixed = fixed_settings(asked)
    policies = list(dict.fromkeys(["plain", "smart", *fixed.values(), *PUBLISHED]))
    report = decoded(asked, "held-out", policies, batches)
    print(report.heading)
    print_table(report.runs, policies, batches)
    print_verdict(report.runs, fixed, policies, batches)
    if options.json:
        write_json(
            runs_report(report.runs, report.device_match, report.heading, GREEDY, ()), options.json
        )


if __name__ == "__main__":
    main()

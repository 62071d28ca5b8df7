"""What choosing trees by a quick profile loses on a device that was measured densely.

    smartprof calibrate --gpu cpu --mode quick --out quick.json
    smartprof calibrate --gpu cpu --mode dense --out truth.json
    smartprof calibrate --gpu cpu --mode dense --out again.json
    python benchmarks/regret.py --profile quick.json --truth truth.json --again again.json

Takes the second profile for the truth. At every batch and context that both cover, for each assumed
acceptance and each drafter that both price, the best of plain decoding, chains and EAGLE-2's trees
by the first profile is priced by the second and compared with the best by the second. Prints the
regret over all decisions, by batch, and the worst ones; beside it the estimate that the first
profile holds of itself. The truth is noisy as well: what another dense calibration loses by it
(`--again`) is the floor, which no quick one can be expected to stay below. What is lost beyond it,
decision by decision, is lost against choices that the truth's own luck does not favour. Needs no
model.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from smartprof.format import percent_text
from smartprof.planning.decisions import CURVES, Decision, compare_decisions
from smartprof.planning.regret import estimated_regret
from smartprof.planning.sources.table import read_acceptance
from smartprof.profile.cost import CostModel
from smartprof.profile.files import find_profile, load_profile
from smartprof.profile.keys import compare_keys
from smartprof.profile.quality import DecisionRegret
from smartprof.profile.schema import Profile

BAR_MEAN_PCT, BAR_MAX_PCT = 1.0, 5.0
WORST = 5  # decisions shown


def main() -> None:
    """Parse, decide, print."""
    asked = parse()
    profile, truth = (load_profile(find_profile(x)) for x in (asked.profile, asked.truth))
    for line in differences(profile, truth):
        print(f"warning: {line}")
    acceptance = asked.acceptance.split(",")
    found = judged(profile, truth, acceptance)
    if not found:
        raise SystemExit("expected profiles with a drafter in common, got none")
    for line in report(found, profile.quality.regret or estimated_regret(profile)):
        print(line)
    if asked.again is not None:
        again = load_profile(find_profile(asked.again))
        floor = judged(again, truth, acceptance)
        print(summary("floor", regrets(floor)))
        print(summary("beyond the floor", beyond(found, floor)))


def parse(command: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, of the command line unless told otherwise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--profile", required=True, help="the one that chooses")
    parser.add_argument("--truth", required=True, help="the one that is believed")
    parser.add_argument("--again", help="measured like the truth: what it loses is the floor")
    parser.add_argument("--acceptance", default=",".join(CURVES))
    return parser.parse_args(command)


def differences(profile: Profile, truth: Profile) -> list[str]:
    """Why the second may be no truth about the first's device."""
    match = compare_keys(profile.key, truth.key)
    return [*match.modelled, *match.refused, *match.warnings]


def judged(profile: Profile, truth: Profile, acceptance: Sequence[str]) -> list[Decision]:
    """Every decision of the first profile, by the second."""
    curves = [read_acceptance(x) for x in acceptance]
    shared = [x for x in profile.drafters if x in truth.drafters]
    return [
        y
        for x in shared
        for y in compare_decisions(CostModel(profile, x), CostModel(truth, x), curves)
    ]


def report(decisions: Sequence[Decision], estimate: DecisionRegret | None) -> list[str]:
    """Lines for the terminal."""
    losses = regrets(decisions)
    lines = [f"{summary('all', losses)}; {sum(x.changes for x in decisions)} decisions differ"]
    for batch in sorted({x.batch for x in decisions}):
        lines.append(summary(f"batch {batch}", losses[[x.batch == batch for x in decisions]]))
    worst = sorted(decisions, key=lambda x: -x.cost_percent)[:WORST]
    lines += [decision_line(x) for x in worst if x.changes]
    if estimate is not None:
        lines.append(
            f"its own estimate: mean {percent_text(estimate.mean_pct, 2)}, "
            f"p95 {percent_text(estimate.p95_pct, 2)}, max {percent_text(estimate.max_pct, 2)}"
        )
    within = losses.mean() <= BAR_MEAN_PCT and losses.max() <= BAR_MAX_PCT
    bars = f"mean {BAR_MEAN_PCT:g} %, max {BAR_MAX_PCT:g} %"
    return [*lines, f"{'within' if within else 'ABOVE'} the bars: {bars}"]


def regrets(decisions: Sequence[Decision]) -> np.ndarray:
    """Percent of each decision, [decisions]."""
    return np.array([x.cost_percent for x in decisions])


def beyond(found: Sequence[Decision], floor: Sequence[Decision]) -> np.ndarray:
    """Percent that decisions lose more than those of the floor at the same places, [decisions]."""
    lost = {_place(x): x.cost_percent for x in floor}
    return np.array([x.cost_percent - lost[_place(x)] for x in found if _place(x) in lost])


def _place(decision: Decision) -> tuple[str, str, int, float]:
    return decision.drafter, decision.acceptance, decision.batch, decision.context


def summary(name: str, losses: np.ndarray) -> str:
    """Regret over some decisions, in percent."""
    p95, most = float(np.quantile(losses, 0.95)), float(losses.max())
    return (
        f"{name}: regret mean {percent_text(float(losses.mean()), 2)}, "
        f"p95 {percent_text(p95, 2)}, max {percent_text(most, 2)} over {len(losses)} decisions"
    )


def decision_line(decision: Decision) -> str:
    """One decision that was not the best."""
    return (
        f"  {percent_text(decision.cost_percent, 2)}: batch {decision.batch}, context "
        f"{decision.context:g}, {decision.drafter}, {decision.acceptance}: {decision.by_one} "
        f"instead of {decision.by_other}"
    )


if __name__ == "__main__":
    main()

"""Two profiles side by side, for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from smartprof.format import percent_text
from smartprof.planning.decisions import Decision
from smartprof.profile.compare import Region
from smartprof.profile.keys import Difference
from smartprof.profile.schema import Profile
from smartprof.report.tables import MISSING

REGIONS_CAPTION = (
    "B / A: median of the ratios of seconds at the points that either measured; +-: median 95 % "
    "half-width of A and B, - for seconds that were not timed; apart, p95: by how much the two "
    "differ either way, median and 95th percentile; FAST, SLOW: B's intervals lie clear of A's; "
    "SAME: each value in the other's interval; AMBIGUOUS: too noisy to tell"
)


@dataclass(frozen=True)
class Comparison:
    """What `smartprof compare` found: the first profile is A, the second B.

    differences: of their keys. unshared: drafters that only one of them prices. decisions: at every
    place and acceptance looked at.
    """

    one: Profile
    other: Profile
    differences: tuple[Difference, ...]
    unshared: tuple[str, ...]
    regions: tuple[Region, ...]
    decisions: tuple[Decision, ...]


def comparison_lines(comparison: Comparison) -> list[str]:
    """What A and B are, and where their keys differ."""
    lines = [
        f"{name}: {x.key.target.name} ({x.key.dtype}, {x.key.execution}) on {x.key.device.name}: "
        f"{x.provenance.kind} {x.created}"
        for name, x in (("A", comparison.one), ("B", comparison.other))
    ]
    lines += [f"{x.text('A has', 'B has')} ({x.consequence})" for x in comparison.differences]
    if not comparison.differences:
        lines.append("keys: no difference")
    if comparison.unshared:
        lines.append(f"not compared, in one of them only: {', '.join(comparison.unshared)}")
    return lines


def regions_table(comparison: Comparison) -> Table:
    """One line per quantity and region."""
    table = _table("seconds of B against A")
    numbers = ("points", "B / A", "+- A", "+- B", "apart", "p95", "verdict")
    for name in ("quantity", "region", *numbers):
        table.add_column(name, justify="left" if name in ("quantity", "region") else "right")
    before = None
    for region in comparison.regions:
        widths = _half_widths(comparison, region)
        owner = (region.quantity, region.drafter)
        if before not in (None, owner):
            table.add_section()
        name = region.quantity if region.drafter is None else f"{owner[0]} ({owner[1]})"
        table.add_row(
            name if owner != before else "",
            region.name,
            str(region.points),
            f"{region.ratio:.3f}",
            *(MISSING if x is None else percent_text(100 * x) for x in widths),
            percent_text(100 * region.apart),
            percent_text(100 * region.apart_p95),
            region.verdict,
        )
        before = owner
    table.caption = REGIONS_CAPTION
    return table


def decisions_table(decisions: Sequence[Decision]) -> Table:
    """One line per decision that changes, by acceptance."""
    table = _table("decisions that change")
    for name in ("acceptance", "drafter", "context", "batch", "by A", "by B", "A's choice costs"):
        numeric = name in ("context", "batch", "A's choice costs")
        table.add_column(name, justify="right" if numeric else "left")
    changed = [x for x in decisions if x.changes]
    for before, decision in zip([None, *changed], changed, strict=False):
        new = before is None or before.acceptance != decision.acceptance
        if new and before is not None:
            table.add_section()
        table.add_row(
            decision.acceptance if new else "",
            decision.drafter,
            f"{decision.context:g}",
            str(decision.batch),
            str(decision.by_one),
            str(decision.by_other),
            percent_text(decision.cost_percent),
        )
    return table


def decisions_sentence(decisions: Sequence[Decision]) -> str:
    """How many change, and what that costs."""
    if not decisions:
        return "decisions: none compared, no drafter and place that both profiles price"
    changed = sum(x.changes for x in decisions)
    costs = [x.cost_percent for x in decisions]
    return (
        f"decisions: {changed} of {len(decisions)} change; choosing with A costs "
        f"{percent_text(sum(costs) / len(costs))} of B's tokens per second on average, "
        f"{percent_text(max(costs))} at most (modelled by B, assumed acceptance)"
    )


def comparison_report(comparison: Comparison) -> dict[str, Any]:
    """The contract of `compare --json`: profiles, differences, regions, decisions."""
    profiles = (("a", comparison.one), ("b", comparison.other))
    return {
        **{name: _profile(x) for name, x in profiles},
        "differences": [
            {"field": x.field, "a": x.one, "b": x.other, "consequence": x.consequence}
            for x in comparison.differences
        ],
        "unshared_drafters": list(comparison.unshared),
        "regions": [_region(comparison, x) for x in comparison.regions],
        "decisions": [_decision(x) for x in comparison.decisions],
    }


def _region(comparison: Comparison, region: Region) -> dict[str, Any]:
    half_width, other_half_width = _half_widths(comparison, region)
    return {
        "quantity": region.quantity,
        "drafter": region.drafter,
        "region": region.name,
        "points": region.points,
        "ratio": region.ratio,
        "half_width_a": half_width,
        "half_width_b": other_half_width,
        "apart": region.apart,
        "apart_p95": region.apart_p95,
        "verdict": region.verdict,
    }


def _half_widths(comparison: Comparison, region: Region) -> tuple[float | None, float | None]:
    """Those of A and B; None where the seconds are computed and have no interval."""
    one, other = (x.provenance.kind == "analytic" for x in (comparison.one, comparison.other))
    return (None if one else region.half_width, None if other else region.other_half_width)


def _profile(profile: Profile) -> dict[str, Any]:
    return {
        "checksum": profile.checksum,
        "provenance": profile.provenance.kind,
        "created": profile.created,
        "device": profile.key.device.name,
        "target": profile.key.target.name,
    }


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        "drafter": decision.drafter,
        "acceptance": decision.acceptance,
        "batch": decision.batch,
        "context": decision.context,
        "by_a": asdict(decision.by_one),
        "by_b": asdict(decision.by_other),
        "cost_percent": decision.cost_percent,
    }


def _table(title: str) -> Table:
    return Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")

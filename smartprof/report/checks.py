"""Findings of `smartprof check` in lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smartprof.format import percent_text, seconds_text
from smartprof.profile.checks import Finding

if TYPE_CHECKING:
    from smartprof.calibrate.spots import Recheck


def finding_line(finding: Finding) -> str:
    """Mark, name, and what is to be said."""
    return f"{finding.mark:<5} {finding.name}: {finding.text}"


def recheck_lines(rechecks: Sequence[Recheck]) -> list[str]:
    """One line per point: then, now, and the verdict."""
    lines = []
    for recheck in rechecks:
        point = recheck.spot.point
        where = (
            f"{point.quantity} batch {point.batch}, {point.size} tokens, context {point.context}"
        )
        then = _timing(recheck.spot.seconds, recheck.spot.half_width)
        now = _timing(recheck.now.median, recheck.half_width)
        lines.append(f"{recheck.verdict:<9} {where}: {then}, now {now} ({recheck.ratio:.3f})")
    return lines


def summary_line(findings: Sequence[Finding]) -> str:
    """How many of each mark."""
    counts = {x: sum(y.mark == x for y in findings) for x in ("OK", "WARN", "FAIL", "SKIP")}
    return ", ".join(f"{count} {mark}" for mark, count in counts.items() if count)


def failed(findings: Sequence[Finding]) -> bool:
    """Whether the profile is not to be used as it is."""
    return any(x.mark == "FAIL" for x in findings)


def _timing(seconds: float, half_width: float) -> str:
    return f"{seconds_text(seconds)} +- {percent_text(100 * half_width)}"

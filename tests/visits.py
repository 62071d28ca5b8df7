"""What visits add up to, as they were timed."""

from __future__ import annotations

from collections.abc import Sequence

from smartprof.calibrate.visits import Samples, Visit


def totals(visits: Sequence[Visit]) -> Samples:
    """All samples by point, nothing set right."""
    samples: Samples = {}
    for visit in visits:
        samples.setdefault(visit.point, []).extend(visit.samples)
    return samples

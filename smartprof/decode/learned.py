"""The acceptance file of a run: what its lanes saw, on top of what they started from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from smartprof.decode.acceptance import AcceptanceStart, calibrations_of
from smartprof.decode.run import LaneResult
from smartprof.profile.acceptance import (
    ACCEPTANCE_VERSION,
    AcceptanceFile,
    AcceptanceProvenance,
    PlaceRow,
    SourceAcceptance,
    SplitErrors,
)
from smartprof.profile.part import utc_now
from smartprof.trees.acceptance import FEATURES, Calibration, Labelled
from smartprof.trees.reliability import (
    NO_EVENTS,
    AcceptanceRecord,
    Reliability,
    SourceRecord,
    count_places,
)

Statistics = dict[str, list[list[float]]]
Records = Sequence[tuple[LaneResult, AcceptanceRecord]]


@dataclass(frozen=True, eq=False)
class _Seen:
    """One source's proposals in all lanes of a run.

    repeats: lanes that decode the same prompts, so that their labels repeat each other.
    """

    labelled: Labelled
    selected: Reliability
    repeats: int


def learned_file(
    start: AcceptanceStart, lanes: Sequence[LaneResult], workload: str
) -> AcceptanceFile:
    """What was known before and what these lanes add; their drafters kept their labels.

    workload: what was decoded, by name. A label counts the less the more lanes decode the same
    prompts. Of a frozen run only the errors are new.
    """
    records = [(x, x.acceptance) for x in lanes if x.acceptance is not None]
    frozen, before = start.request.freeze, start.file
    known = {} if before is None else before.sources
    workloads = [] if before is None else before.provenance.workloads
    split = "+".join(sorted({x.split for x, _ in records}))
    names = dict.fromkeys([*known, *(y for _, x in records for y in x.sources)])
    seen = {x: _seen(x, records) for x in names}
    calibrations = {} if before is None else calibrations_of(before)
    if frozen:
        sources = {x: _judged_source(seen[x], calibrations[x], y, split) for x, y in known.items()}
    else:
        sources = {
            x: _fitted_source(
                seen[x], calibrations.get(x, Calibration.identity()), known.get(x), split
            )
            for x in names
            if seen[x].labelled.size or x in known
        }
    statistics = before.statistics if frozen and before else _mean_statistics(records)
    return AcceptanceFile(
        schema_version=ACCEPTANCE_VERSION,
        created=utc_now(),
        provenance=AcceptanceProvenance(
            command=start.request.command,
            workloads=list(dict.fromkeys([*workloads, *([] if frozen else [workload])])),
        ),
        key=start.key,
        features=list(FEATURES),
        statistics=statistics,
        sources=sources,
    )


def _seen(source: str, records: Records) -> _Seen:
    of_source: list[tuple[LaneResult, SourceRecord]] = [
        (lane, x.sources[source]) for lane, x in records if source in x.sources
    ]
    labelled = [(lane, x.labelled) for lane, x in of_source if x.labelled.size]
    return _Seen(
        Labelled.joined([x for _, x in labelled]),
        sum((x.selected for _, x in of_source), NO_EVENTS),
        max(1, len({(lane.policy, lane.batch) for lane, _ in labelled})),
    )


def _fitted_source(
    seen: _Seen, start: Calibration, known: SourceAcceptance | None, split: str
) -> SourceAcceptance:
    """The source learned on: earlier errors are of other weights and go."""
    if known and not seen.labelled.size:
        return known
    found = start.fitted(seen.labelled, 1.0 / seen.repeats)
    places = _places(seen.labelled, [] if known is None else known.places)
    return SourceAcceptance(
        weights=found.weights.tolist(),
        precision=found.precision.tolist(),
        nodes=len(seen.labelled.proposals.first) + (0 if known is None else known.nodes),
        labels=sum(x.proposed for x in places),
        places=places,
        errors=[_errors(seen, found, split, fitted=True)],
    )


def _judged_source(
    seen: _Seen, start: Calibration, known: SourceAcceptance, split: str
) -> SourceAcceptance:
    """The source as it was, with its errors on this split."""
    fitted = any(x.fitted for x in known.errors if x.split == split)
    others = [x for x in known.errors if x.split != split]
    return known.model_copy(update={"errors": [*others, _errors(seen, start, split, fitted)]})


def _errors(seen: _Seen, found: Calibration, split: str, fitted: bool) -> SplitErrors:
    proposals, right = seen.labelled.proposals, seen.labelled.right
    return SplitErrors(
        split=split,
        fitted=fitted,
        labels=seen.labelled.size,
        stated_pct=_percent(Reliability.of(proposals.stated, right)),
        calibrated_pct=_percent(Reliability.of(found.calibrated(proposals), right)),
        nodes=seen.selected.size,
        cumulative_pct=_percent(seen.selected),
    )


def _percent(found: Reliability) -> float | None:
    return None if found.error is None else 100 * found.error


def _places(seen: Labelled, known: Sequence[PlaceRow]) -> list[PlaceRow]:
    """Counts by depth and rank, those known before and the new ones."""
    total = {(x.depth, x.rank): x for x in known}
    for count in count_places(seen):
        place = (count.depth, count.rank)
        row = PlaceRow(**asdict(count))
        if place in total:
            row = PlaceRow(
                depth=row.depth,
                rank=row.rank,
                proposed=total[place].proposed + row.proposed,
                right=total[place].right + row.right,
            )
        total[place] = row
    return [total[x] for x in sorted(total)]


def _mean_statistics(records: Records) -> Statistics:
    """Of the lanes that drafted, else of all: they started alike, so another may start there."""
    drafted = [x for _, x in records if any(y.labelled.size for y in x.sources.values())]
    counted = [x.statistics for x in drafted or [x for _, x in records]]
    return {x: np.mean([y[x] for y in counted], axis=0).tolist() for x in counted[0]}

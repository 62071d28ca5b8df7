"""An acceptance file, which `decode --save-acceptance` writes: counts by depth and rank."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from smartprof.planning.acceptance import Acceptance
from smartprof.planning.sources.base import Source
from smartprof.profile.acceptance import AcceptanceFile, PlaceRow, load_acceptance

SOME_PROPOSED = (
    "counts are of nodes below which the drafter proposed something: one that often has nothing to "
    "propose, as n-grams do, drafts less than is planned"
)


def read_learned(text: str) -> Acceptance:
    """Of the drafter's fullest source. Raises InputError for a file that is none."""
    path = Path(text)
    found = load_acceptance(path)
    return acceptance_of(found, path)


def acceptance_of(found: AcceptanceFile, path: Path) -> Acceptance:
    """Rates by depth and rank; the trials of a depth are those of its likeliest children."""
    source = found.key.drafter.name
    places = found.sources[source].places if source in found.sources else []
    tried: list[int] = []
    accepted: list[list[int]] = []
    for depth, rows in groupby(places, lambda x: x.depth):
        by_rank = {x.rank: x for x in rows}
        if depth != len(tried) + 1 or 1 not in by_rank:
            break  # nothing is known of a depth in between
        tried.append(by_rank[1].proposed)
        accepted.append([_right(by_rank, x) for x in range(1, max(by_rank) + 1)])
    origin = f"{source} of {', '.join(found.provenance.workloads)} in {path.name}"
    return Acceptance.counted(accepted, tried, origin, (SOME_PROPOSED,))


def _right(by_rank: dict[int, PlaceRow], rank: int) -> int:
    return by_rank[rank].right if rank in by_rank else 0


LEARNED = Source(
    name="file",
    form="FILE",
    meaning="an acceptance file of decode --save-acceptance",
    read=read_learned,
)

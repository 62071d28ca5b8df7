"""A server's profile to batch 512, and what a plan says for each of its batches."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from smartprof.exports.base import ExportRequest
from smartprof.planning.families.chain import Chain
from smartprof.planning.plan import make_plan
from smartprof.planning.sources.table import read_acceptance
from smartprof.profile.cost import CostModel
from smartprof.profile.schema import Profile
from tests.profiles import make_profile

LAST = 512
ALL = range(1, LAST + 1)


def server_profile(kind: str = "eagle3", ragged: bool = False) -> Profile:
    """Batches to 512; speculation pays less and less, with `ragged` now and then not at all."""

    def seconds(batch: int, size: int, context: int) -> float:
        bump = 0.01 if ragged and batch in (8, 64) and size > batch else 0.0
        work = 6e-5 * max(0, size - 100) + 2e-4 * max(0, size - 512)
        return 0.02 + work + 1e-7 * batch * context / 64 + bump

    profile = make_profile(
        seconds,
        draft_step=lambda batch, size, context: 1e-3,
        batches=(1, 4, 8, 16, 64, 256, 512),
        contexts=(64, 1024),
        sizes=(1, 8, 64, 100, 128, 256, 512, 1024, 2048, 4608),
    )
    costs = profile.drafters["ngram"].model_copy(update={"kind": kind})
    return profile.model_copy(update={"drafters": {"it": costs}, "checksum": "sha256:" + "a" * 64})


def request(profile: Profile, path: Path = Path("settings"), **options: object) -> ExportRequest:
    plain = ExportRequest(
        costs=CostModel(profile, "it"),
        acceptance=read_acceptance("synthetic:0.75+0.1/0.65/0.6"),
        context=64.0,
        max_batch=LAST,
        path=path,
    )
    return replace(plain, **options)  # type: ignore[arg-type]


def planned(asked: ExportRequest, edges: Sequence[int]) -> dict[int, int]:
    """The best chain of each batch's graph."""
    plan = make_plan(
        asked.costs,
        asked.acceptance,
        Chain(),
        edges,
        [asked.context],
        rule=asked.rule,
        bounds=asked.bounds,
    )
    by_edge = {x.batch: x.chosen.setting.nodes for x in plan.cells}
    return {x: by_edge[edges[bisect_left(edges, x)]] for x in ALL}

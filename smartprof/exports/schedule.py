"""Chain lengths by batch, in tiers that end where an engine's graphs do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import ClassVar

import numpy as np

from smartprof.exports.base import TIERS, Export, Exporter, ExportRequest, nothing_pays
from smartprof.planning.families.chain import Chain
from smartprof.planning.families.table import find_family
from smartprof.planning.families.tree import Tree
from smartprof.planning.inputs import measured_contexts
from smartprof.planning.plan import Plan, Rule, make_plan
from smartprof.planning.prices import Place, token_rates


@dataclass(frozen=True)
class Tier:
    """Batches from `first` to `last` draft `length` tokens; 0 is plain decoding."""

    first: int
    last: int
    length: int


@dataclass(frozen=True, eq=False)
class Schedule:
    """Tiers from batch 1 to the largest, without gaps, and the plan that they come from."""

    tiers: tuple[Tier, ...]
    plan: Plan

    @property
    def longest(self) -> int:
        """The largest length of any tier."""
        return max(x.length for x in self.tiers)

    @property
    def max_batch(self) -> int:
        """Where the last tier ends."""
        return self.tiers[-1].last

    def length(self, batch: int) -> int:
        """Of a batch from 1 to the largest."""
        return next(x.length for x in self.tiers if x.first <= batch <= x.last)


class ScheduleExporter(Exporter):
    """For engines that draft chains whose length follows the batch."""

    takes: ClassVar[frozenset[str]] = TIERS

    @abstractmethod
    def default_graph_sizes(self, max_batch: int) -> list[int]:
        """Batches that the engine captures graphs of, unless told otherwise."""

    @abstractmethod
    def write(self, request: ExportRequest, schedule: Schedule) -> Export:
        """The engine's own file for a schedule that speculates somewhere."""

    def _export(self, request: ExportRequest) -> Export:
        sizes = request.graph_sizes or tuple(self.default_graph_sizes(request.max_batch))
        schedule = self.schedule(request, sizes)
        if not schedule.longest:
            raise nothing_pays(request, f"1 to {request.max_batch}")
        export = self.write(request, schedule)
        remarks = (*export.remarks, *shared_remarks(request, schedule.plan), _edges(schedule))
        return replace(export, remarks=remarks)

    def schedule(self, request: ExportRequest, sizes: Sequence[int]) -> Schedule:
        """The plan of each graph size up to the largest batch, as tiers.

        A batch between two sizes runs in the larger one's graph, so it gets that one's setting.
        """
        return make_schedule(request, sizes)


def make_schedule(request: ExportRequest, sizes: Sequence[int]) -> Schedule:
    """Tiers whose last batches are among `sizes` or the largest batch."""
    edges = sorted({*(x for x in sizes if x < request.max_batch), request.max_batch})
    plan = make_plan(
        request.costs,
        request.acceptance,
        Chain(),
        edges,
        [request.context],
        rule=request.rule,
        bounds=request.bounds,
    )
    tiers: list[Tier] = []
    for length, cells in groupby(plan.cells, lambda x: x.chosen.setting.nodes):
        first = tiers[-1].last + 1 if tiers else 1
        tiers.append(Tier(first, [x.batch for x in cells][-1], length))
    return Schedule(tuple(tiers), plan)


def one_setting(request: ExportRequest, plan_all: Sequence[int]) -> Plan:
    """The plan of a server with one chain length: for one batch, or best over `plan_all`."""
    batches = [request.batch] if request.batch else plan_all
    plan = make_plan(
        request.costs,
        request.acceptance,
        Chain(),
        batches,
        [request.context],
        rule=Rule(ranges=1),
        bounds=request.bounds,
    )
    if not plan.cells[0].pays:
        raise nothing_pays(request, _span(batches))
    return plan


def shared_remarks(request: ExportRequest, plan: Plan) -> tuple[str, ...]:
    """What no engine's file can say: origin, context, tree, batches that were not measured."""
    remarks = [
        f"chosen by a profile {request.costs.profile.provenance.kind} "
        f"{request.costs.profile.created} ({request.costs.profile.checksum}); "
        f"{request.acceptance.heading}",
        _context_remark(request, plan),
    ]
    if plan.family == Chain.name and request.acceptance.positional.table.shape[1] > 1:
        remarks.append(_tree_remark(request, plan))
    beyond = [x.batch for x in plan.cells if x.tier == "extrapolated"]
    if beyond:
        remarks.append(
            f"seconds are extrapolated at batch {_span(beyond)}: none was measured there"
        )
    return (*remarks, *request.acceptance.remarks)


def _context_remark(request: ExportRequest, plan: Plan) -> str:
    """How much the settings lose where contexts are others than the one they were chosen at."""
    candidates = find_family(plan.family).candidates(request.acceptance, request.bounds)
    place = {x.setting: i for i, x in enumerate(candidates)}
    losses = []
    for context in measured_contexts(request.costs.profile):
        if context == request.context:
            continue
        worst = 0.0
        for cell in plan.cells:
            rates = token_rates(request.costs, candidates, Place(cell.batch, context))
            worst = max(worst, 1 - float(rates[place[cell.chosen.setting]] / rates.max()))
        losses.append(f"up to {100 * worst:.1f} % at {context:g}")
    dropped = f"the context axis is dropped: settings are those at context {request.context:g}"
    if not losses:
        return dropped
    return f"{dropped}; they lose against the best at measured contexts {', '.join(losses)}"


def _tree_remark(request: ExportRequest, plan: Plan) -> str:
    trees = Tree().candidates(request.acceptance, request.bounds)
    gains = {}
    for cell in plan.cells:
        rates = token_rates(request.costs, trees, Place(cell.batch, request.context))
        chosen = cell.chosen.tokens / cell.chosen.parts.total
        gains[cell.batch] = float(np.max(rates)) / chosen - 1
    batch = max(gains, key=lambda x: gains[x])
    return (
        "trees become chains: the engine's setting has one branch; the best tree would be up to "
        f"{100 * gains[batch]:.1f} % faster (batch {batch})"
    )


def _edges(schedule: Schedule) -> str:
    tiers = ", ".join(f"{_span([x.first, x.last])}: {x.length}" for x in schedule.tiers)
    return (
        f"tiers end on graph sizes, the last at batch {schedule.max_batch}; tokens by batch {tiers}"
    )


def _span(batches: Sequence[int]) -> str:
    first, last = batches[0], batches[-1]
    return str(first) if first == last else f"{first} to {last}"

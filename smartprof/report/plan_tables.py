"""A plan for the terminal: the table, where speculation stops paying, one cell explained."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.table import Table

from smartprof.format import ratio_text, seconds_text
from smartprof.planning.plan import Cell, Plan, Priced
from smartprof.profile.cost import CostModel

CAPTION = (
    "tokens per request and round, the target's own included; speedup over plain decoding, both "
    "modelled by the profile; 95 %: {intervals}"
)


def plan_heading(costs: CostModel, plan: Plan) -> str:
    """What the plan holds for, and what it rests on."""
    profile, key = costs.profile, costs.profile.key
    kind = profile.provenance.kind
    origin = f"a profile {kind} {profile.created}"
    if kind == "analytic":
        origin = f"an ANALYTIC profile of {profile.created}, in which nothing was measured"
    return (
        f"{plan.family} settings for {key.target.name} ({key.dtype}, {key.execution}) with "
        f"{costs.drafter} on {key.device.name}: modelled by {origin}; {plan.acceptance.heading}"
    )


def plan_table(plan: Plan, analytic: bool = False) -> Table:
    """One line per context and batch. analytic: the profile's seconds have no intervals."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("context", "batch", "setting", "tokens", "round", "speedup", "95 %", "seconds"):
        table.add_column(name, justify="left" if name in ("setting", "seconds") else "right")
    for context in plan.contexts:
        for cell in plan.at(context):
            table.add_row(*_cells(cell, uncertain(plan, analytic)))
        table.add_section()
    table.caption = CAPTION.format(intervals=_intervals(plan, analytic))
    return table


def uncertain(plan: Plan, analytic: bool) -> bool:
    """Whether anything is known of how far the speedups may be off."""
    return not analytic or plan.acceptance.tried is not None


def _intervals(plan: Plan, analytic: bool) -> str:
    counted = plan.acceptance.tried is not None
    if analytic:
        return f"unknown, the seconds are estimates{'; from counts alone' if counted else ''}"
    counts = (
        "the acceptance's counts" if counted else "not from the acceptance, which has no counts"
    )
    return f"from the intervals of its seconds and {counts}"


def _cells(cell: Cell, uncertain: bool) -> list[str]:
    chosen = cell.chosen
    kept = chosen.setting != cell.fastest.setting
    return [
        f"{cell.context:g}",
        str(cell.batch),
        f"{chosen.setting}{f' (fastest: {cell.fastest.setting})' if kept else ''}",
        f"{chosen.tokens:.2f}",
        seconds_text(chosen.parts.total),
        ratio_text(chosen.speedup),
        f"{cell.low:.2f}-{cell.high:.2f}" if cell.pays and uncertain else "-",
        cell.tier,
    ]


def stop_sentences(plan: Plan) -> list[str]:
    """For each context the batches at which speculation does not pay, as they come."""
    found = []
    for context in plan.contexts:
        cells = plan.at(context)
        off = [x.batch for x in cells if not x.pays]
        doubtful = [x.batch for x in cells if x.pays and x.low <= 1]
        beyond = [x.batch for x in cells if x.tier == "extrapolated"]
        if not off:
            sentence = f"speculation pays at batch {_runs(plan.batches, plan.batches)}"
        elif len(off) == len(cells):
            sentence = "speculation pays at no batch asked for, plain decoding is best"
        else:
            sentence = f"plain decoding is best at batch {_runs(off, plan.batches)}"
        if doubtful:
            sentence += f"; the interval reaches 1 at batch {_runs(doubtful, plan.batches)}"
        if beyond:
            sentence += f"; extrapolated at batch {_runs(beyond, plan.batches)}"
        found.append(f"context {context:g}: {sentence}")
    return found


def _runs(chosen: Sequence[int], batches: Sequence[int]) -> str:
    """Neighbours among the batches that were asked for as ranges: 1, 4-16."""
    place = {x: i for i, x in enumerate(batches)}
    texts = []
    for _, group in groupby(enumerate(chosen), lambda x: place[x[1]] - x[0]):
        run = [x[1] for x in group]
        texts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ", ".join(texts)


def explanation(cell: Cell, uncertain: bool = True) -> list[str]:
    """A decision in lines: its seconds by part, its tokens, and what came second.

    uncertain: whether the cell's interval tells anything.
    """
    chosen, other = cell.chosen, cell.runner_up
    interval = f" (95 % {cell.low:.2f}-{cell.high:.2f})" if uncertain else ""
    lines = [
        f"batch {cell.batch}, context {cell.context:g}: {chosen.setting}",
        *_priced_lines(chosen, cell.batch),
    ]
    if cell.pays:
        lines.append(
            f"  plain round {seconds_text(cell.plain_seconds)}, so the speedup is "
            f"{ratio_text(chosen.speedup)}{interval}"
        )
    lines.append(f"  the least certain of these seconds is {cell.tier}")
    if chosen.setting != cell.fastest.setting:
        lines.append(
            f"  kept for the neighbouring batches: the fastest here is {cell.fastest.setting} with "
            f"{ratio_text(cell.fastest.speedup)}"
        )
    difference = 100 * (other.speedup / chosen.speedup - 1)
    comparison = f"{abs(difference):.1f} % {'slower' if difference <= 0 else 'faster'}"
    return [
        *lines,
        f"runner-up: {other.setting}, {comparison}",
        *_priced_lines(other, cell.batch),
    ]


def _priced_lines(priced: Priced, batch: int) -> list[str]:
    parts = priced.parts
    if not priced.setting.depth:
        return [f"  a plain round of {seconds_text(parts.total)} for 1 token per request"]
    return [
        f"  catch-up {seconds_text(parts.catchup)} + draft steps {seconds_text(parts.steps)} + "
        f"verify {batch * (1 + priced.setting.nodes)} tokens {seconds_text(parts.verify)} + "
        f"overhead {seconds_text(parts.overhead)} = {seconds_text(parts.total)}",
        f"  for {priced.tokens:.3f} tokens per request, "
        f"{seconds_text(parts.total / priced.tokens)} each",
    ]

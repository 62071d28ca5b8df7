"""A plan as JSON and as a heat map."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from smartprof.planning.plan import Cell, Plan, Priced
from smartprof.profile.cost import CostModel

CELL_INCHES = (1.5, 0.62)


def plan_report(costs: CostModel, plan: Plan) -> dict[str, Any]:
    """The contract of `plan --json`: what it rests on, and {"cells": [...]}, one per line."""
    acceptance, profile = plan.acceptance, costs.profile
    return {
        "profile": {
            "checksum": profile.checksum,
            "provenance": profile.provenance.kind,
            "created": profile.created,
            "device": profile.key.device.name,
            "target": profile.key.target.name,
        },
        "drafter": costs.drafter,
        "family": plan.family,
        "rule": asdict(plan.rule),
        "acceptance": {
            "origin": acceptance.origin,
            "synthetic": acceptance.synthetic,
            "rates": [list(x) for x in acceptance.positional.rates],
            "tried": None if acceptance.tried is None else list(acceptance.tried),
            "remarks": list(acceptance.remarks),
        },
        "cells": [_cell(x) for x in plan.cells],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "batch": cell.batch,
        "context": cell.context,
        **_priced(cell.chosen),
        "speedup_low": cell.low,
        "speedup_high": cell.high,
        "tier": cell.tier,
        "plain_seconds": cell.plain_seconds,
        "fastest": _priced(cell.fastest),
        "runner_up": _priced(cell.runner_up),
    }


def _priced(priced: Priced) -> dict[str, Any]:
    return {
        "setting": asdict(priced.setting),
        "tokens_per_round": priced.tokens,
        "seconds": {**asdict(priced.parts), "total": priced.parts.total},
        "speedup": priced.speedup,
    }


def plot_plan(plan: Plan, heading: str, path: Path) -> None:
    """Speedup of the chosen settings over batch and context, with the settings written in."""
    import matplotlib.pyplot as plt

    from smartprof.report.plots import save_figure

    rows, columns = len(plan.contexts), len(plan.batches)
    size = (1.5 + CELL_INCHES[0] * columns, 1.4 + CELL_INCHES[1] * rows)
    figure, axes = plt.subplots(figsize=size)
    speedups = [[x.chosen.speedup for x in plan.at(y)] for y in plan.contexts]
    image = axes.imshow(speedups, cmap="viridis", aspect="auto", origin="lower", vmin=1.0)
    middle = (1.0 + max(map(max, speedups))) / 2
    for row, context in enumerate(plan.contexts):
        for column, cell in enumerate(plan.at(context)):
            beyond = "*" if cell.tier == "extrapolated" else ""
            text = f"{_short(cell)}\n{cell.chosen.speedup:.2f}x{beyond}"
            colour = "white" if cell.chosen.speedup < middle else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(columns), [str(x) for x in plan.batches])
    axes.set_yticks(range(rows), [f"{x:g}" for x in plan.contexts])
    axes.set_xlabel("batch size (* extrapolated)")
    axes.set_ylabel("context")
    axes.set_title(heading, fontsize=8, wrap=True)
    figure.colorbar(image, label="modelled speedup")
    save_figure(figure, path)


def _short(cell: Cell) -> str:
    """Fits into a cell of the map."""
    setting = cell.chosen.setting
    if setting.top_k > 1:
        return f"{setting.depth}/{setting.top_k}/{setting.nodes}"
    return str(setting)

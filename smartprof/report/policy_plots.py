"""Policies against batch size: what each gains, and what it spends and chooses on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from smartprof.report.plots import MILLISECONDS, save_figure
from smartprof.report.simulated import SimulatedRun
from smartprof.report.summary import Run

Line = Run | SimulatedRun
PLAIN = "plain"
COLUMNS = 3
NOTHING = float("nan")  # what is not measured is not drawn


def plot_runs(runs: Sequence[Run], heading: str, path: Path) -> None:
    """Six panels over all prompts: speedup, tokens and milliseconds per round, where they went."""
    pooled = [x for x in runs if x.category is None]
    figure, panels = plt.subplots(2, COLUMNS, figsize=(5.0 * COLUMNS, 7.6), squeeze=False)
    _draw(panels.ravel(), pooled)
    panels[0, 0].set_ylabel("speedup over plain decoding")
    for index, policy in enumerate(_policies(pooled)):
        if policy != PLAIN:  # 1.0 by definition, measured and modelled
            own = [x for x in pooled if x.policy == policy]
            panels[0, 0].plot(
                [x.batch for x in own], [x.modelled_speedup for x in own], "x:", color=f"C{index}"
            )
    panels[0, 0].set_title("dotted: modelled by the profile", fontsize=8)
    figure.suptitle(heading, fontsize=9, wrap=True)
    figure.tight_layout()
    save_figure(figure, path)


def plot_simulated(runs: Sequence[SimulatedRun], heading: str, path: Path) -> None:
    """The same six panels of simulated rounds, two rows a context."""
    contexts = list(dict.fromkeys(x.context for x in runs))
    figure, panels = plt.subplots(
        2 * len(contexts),
        COLUMNS,
        figsize=(5.0 * COLUMNS, 7.6 * len(contexts)),
        squeeze=False,
    )
    for row, context in enumerate(contexts):
        own = panels[2 * row : 2 * row + 2]
        _draw(own.ravel(), [x for x in runs if x.context == context])
        own[0, 0].set_ylabel("simulated speedup over plain decoding")
        if context is not None:
            own[0, 0].set_title(f"context {context}", fontsize=9)
    figure.suptitle(heading, fontsize=9, wrap=True)
    figure.tight_layout()
    save_figure(figure, path)


def _draw(panels: Sequence[Axes] | NDArray[np.object_], runs: Sequence[Line]) -> None:
    """Lines of one context into six panels."""
    _draw_speedup(panels[0], runs)
    for axes, (label, value) in zip(panels[1:], _QUANTITIES.items(), strict=True):
        for index, policy in enumerate(_policies(runs)):
            own = [x for x in runs if x.policy == policy]
            axes.plot(
                [x.batch for x in own], [value(x) for x in own], "o-", ms=4, color=f"C{index}"
            )
        axes.set_ylabel(label)
        _batch_axis(axes, runs)
    panels[0].legend(fontsize=8)


def _draw_speedup(axes: Axes, runs: Sequence[Line]) -> None:
    """Speedups with their intervals over prompts, and the line that nobody may fall below."""
    for index, policy in enumerate(_policies(runs)):
        own = [x for x in runs if x.policy == policy]
        centre = np.array([_known(x.speedup) for x in own])
        low = np.array([_known(x.speedup_low) for x in own])
        high = np.array([_known(x.speedup_high) for x in own])
        spread = np.fmax(0.0, np.stack([centre - low, high - centre]))
        batches = [x.batch for x in own]
        axes.errorbar(
            batches, centre, spread, fmt="o-", ms=4, capsize=3, color=f"C{index}", label=policy
        )
    axes.axhline(1.0, color="black", lw=0.8, ls="--")
    _batch_axis(axes, runs)


def _batch_axis(axes: Axes, runs: Sequence[Line]) -> None:
    """Batch sizes in octaves."""
    batches = sorted({x.batch for x in runs})
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(x) for x in batches])
    axes.set_xlabel("batch size")
    axes.grid(alpha=0.3)


def _policies(runs: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(x.policy for x in runs))


def _known(value: float | None) -> float:
    return NOTHING if value is None else value


def _round_milliseconds(run: Line) -> float:
    return NOTHING if run.seconds is None else MILLISECONDS * run.seconds / run.rounds


def _draft_percent(run: Line) -> float:
    return NOTHING if run.share is None else 100 * run.share.draft


_QUANTITIES: dict[str, Callable[[Line], float]] = {
    "tokens per request and round": lambda x: 1 + x.accepted_per_round,
    "milliseconds per round": _round_milliseconds,
    "tokens verified per request, root included": lambda x: x.tree_size,
    "draft steps per round": lambda x: x.draft_steps,
    "% of a round spent on drafting": _draft_percent,
}

"""Figures: latency surfaces of a profile, and speedup against batch."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smartprof.calibrate.fit import roofline_seconds
from smartprof.errors import InputError
from smartprof.profile.atomic import write_atomically
from smartprof.profile.schema import Curve, Profile, Surface

if TYPE_CHECKING:
    from smartprof.report.simulated import SimulatedRun
    from smartprof.report.summary import Run

PLAIN = "plain"
DPI = 150
MILLISECONDS = 1e3


def plot_surfaces(profile: Profile, path: Path) -> None:
    """Verify seconds against tokens, a panel a context: anchors, fit, and the knee marked."""
    contexts = sorted({x.context or 0 for x in profile.verify.curves})
    figure, panels = plt.subplots(
        1, len(contexts), figsize=(5.2 * len(contexts), 4.2), sharey=True, squeeze=False
    )
    for axes, context in zip(panels[0], contexts, strict=True):
        for index, curve in enumerate(x for x in profile.verify.curves if x.context == context):
            _draw_curve(axes, profile.verify, curve, f"C{index}")
        axes.set_title(f"context {context}")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("tokens of one verify pass, whole batch")
        axes.grid(alpha=0.3, which="both")
    panels[0][0].set_ylabel("milliseconds")
    panels[0][-1].legend(fontsize=8)
    key = profile.key
    figure.suptitle(
        f"{key.target.name}, {key.dtype}, {key.execution}, on {key.device.name} "
        f"({profile.provenance.kind})",
        fontsize=10,
    )
    save_figure(figure, path)


def _draw_curve(axes: Axes, surface: Surface, curve: Curve, colour: str) -> None:
    place = (curve.batch, curve.context)
    anchors = [x for x in surface.anchors if (x.batch, x.context) == place]
    axes.errorbar(
        [x.size for x in anchors],
        [MILLISECONDS * x.seconds for x in anchors],
        yerr=[MILLISECONDS * x.ci_half_width for x in anchors],
        fmt="o",
        ms=4,
        color=colour,
        label=f"batch {curve.batch}: measured, interpolated",
    )
    sizes = np.array([x.size for x in curve.knots])
    seconds = np.array([x.seconds for x in curve.knots])
    axes.plot(sizes, MILLISECONDS * seconds, "-", lw=1, color=colour)
    if curve.roofline is None:
        return
    dense = np.geomspace(sizes[0], sizes[-1], 100)
    axes.plot(
        dense, MILLISECONDS * roofline_seconds(curve.roofline, dense), ":", lw=1, color=colour
    )
    knee = curve.roofline.knee
    height = MILLISECONDS * roofline_seconds(curve.roofline, np.array([knee]))[0]
    axes.plot([knee], [height], "v", ms=8, color=colour, mec="black")
    axes.annotate(f"knee {knee:.0f}", (knee, height), fontsize=7, ha="left", va="top")


def plot_speedup(runs: Sequence[Run], heading: str, path: Path) -> None:
    """Speedup over plain decoding against batch size, one line per policy, 1.0 marked."""
    figure, axes = plt.subplots(figsize=(6.4, 4.4))
    pooled = [x for x in runs if x.category is None]
    for index, policy in enumerate(dict.fromkeys(x.policy for x in pooled)):
        _draw_policy(axes, [x for x in pooled if x.policy == policy], f"C{index}")
    _batch_axis(axes, sorted({x.batch for x in pooled}))
    axes.set_ylabel("speedup over plain decoding")
    axes.set_title(heading, fontsize=9, wrap=True)
    axes.legend(fontsize=8)
    save_figure(figure, path)


def _draw_policy(axes: Axes, runs: Sequence[Run], colour: str) -> None:
    batches = [x.batch for x in runs]
    name = runs[0].policy
    measured = [x for x in runs if x.speedup is not None]
    if measured:
        centre = np.array([x.speedup for x in measured], float)
        low = np.array([x.speedup_low for x in measured], float)
        high = np.array([x.speedup_high for x in measured], float)
        spread = np.maximum(0.0, np.stack([centre - low, high - centre]))
        axes.errorbar(batches, centre, yerr=spread, fmt="o-", capsize=3, color=colour, label=name)
    if name == PLAIN:  # 1.0 by definition, measured and modelled
        return
    axes.plot(
        batches,
        [x.modelled_speedup for x in runs],
        "x:",
        color=colour,
        label=f"{name}, modelled",
        alpha=0.7,
    )


def plot_simulated(runs: Sequence[SimulatedRun], heading: str, path: Path) -> None:
    """Simulated speedup over plain decoding against batch size, a panel a context."""
    contexts = list(dict.fromkeys(x.context for x in runs))
    figure, panels = plt.subplots(
        1, len(contexts), figsize=(6.4 * len(contexts), 4.4), sharey=True, squeeze=False
    )
    for axes, context in zip(panels[0], contexts, strict=True):
        own = [x for x in runs if x.context == context]
        for policy in dict.fromkeys(x.policy for x in own):
            line = [x for x in own if x.policy == policy]
            centre = np.array([x.speedup for x in line])
            ends = np.array([[x.speedup_low, x.speedup_high] for x in line]).T
            spread = np.maximum(0.0, np.stack([centre - ends[0], ends[1] - centre]))
            batches = [x.batch for x in line]
            axes.errorbar(batches, centre, yerr=spread, fmt="o-", ms=4, capsize=3, label=policy)
        _batch_axis(axes, sorted({x.batch for x in own}))
        if context is not None:
            axes.set_title(f"context {context}")
    panels[0][0].set_ylabel("simulated speedup over plain decoding")
    panels[0][-1].legend(fontsize=8)
    figure.suptitle(heading, y=1.0, fontsize=9, wrap=True)
    save_figure(figure, path)


def _batch_axis(axes: Axes, batches: Sequence[int]) -> None:
    """Batch sizes in octaves, and a line at the speed of plain decoding."""
    axes.axhline(1.0, color="black", lw=0.8, ls="--")
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(x) for x in batches])
    axes.set_xlabel("batch size")
    axes.grid(alpha=0.3)


def require_plottable(path: Path) -> None:
    """Raise before any work is done if no figure can be written under this name."""
    known = Figure().canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in known:
        raise InputError(f"{path}: expected an ending of {', '.join(known)}, got {path.suffix!r}")


def save_figure(figure: Figure, path: Path) -> None:
    """Write it, whole or not at all, in the format of the name's ending, and close it."""
    content = BytesIO()
    figure.savefig(
        content, format=path.suffix.removeprefix(".").lower(), dpi=DPI, bbox_inches="tight"
    )
    plt.close(figure)
    write_atomically(content.getvalue(), path, force=True)

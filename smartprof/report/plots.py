"""Figures of a profile, and how any figure is written."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smartprof.atomic import write_atomically
from smartprof.calibrate.fit import roofline_seconds
from smartprof.errors import InputError
from smartprof.profile.schema import Curve, Profile

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
            _draw_curve(axes, profile, curve, f"C{index}")
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


def _draw_curve(axes: Axes, profile: Profile, curve: Curve, colour: str) -> None:
    place = (curve.batch, curve.context)
    anchors = [x for x in profile.verify.anchors if (x.batch, x.context) == place]
    rests_on = "measured, interpolated" if anchors else profile.provenance.kind
    axes.errorbar(
        [x.size for x in anchors],
        [MILLISECONDS * x.seconds for x in anchors],
        yerr=[MILLISECONDS * x.ci_half_width for x in anchors],
        fmt="o",
        ms=4,
        color=colour,
        label=f"batch {curve.batch}: {rests_on}",
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

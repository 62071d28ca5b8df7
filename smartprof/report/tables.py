"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from smartprof.decode.sampling import GREEDY, Sampling
from smartprof.device import Device
from smartprof.format import (
    bytes_text,
    milliseconds_text,
    percent_text,
    ratio_text,
    seconds_text,
)
from smartprof.policies.base import Policy
from smartprof.policies.options import list_options
from smartprof.profile.schema import Curve, ErrorSummary, Profile, Surface

if TYPE_CHECKING:
    from smartprof.report.simulated import SimulatedRun
    from smartprof.report.summary import Run

SHOWN_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
KNEES = ("free 10 %", "free 50 %", "knee")
MISSING = "-"
BEYOND = "..."
ALL = "all"


def device_table(device: Device, fields: dict[str, str | None]) -> Table:
    """What a profile's key would hold for this device."""
    table = Table(title=f"device {device.torch_device}", show_header=False)
    shown = {
        "name": device.name,
        "kind": device.kind,
        "uuid digest": device.uuid_digest,
        "memory": bytes_text(device.memory_bytes),
        "capability": device.capability,
        "driver": device.driver,
        "threads": None if device.threads is None else str(device.threads),
        **fields,
    }
    for name, value in shown.items():
        table.add_row(name, MISSING if value is None else value)
    return table


def verify_table(profile: Profile) -> Table:
    """Seconds of one target pass by tokens, one line per batch and context; anchors marked *."""
    table = _table("target pass (verify): milliseconds by tokens of the whole batch")
    for name in ("batch", "context", *(str(x) for x in SHOWN_SIZES), *KNEES):
        table.add_column(name, justify="right")
    for curve in profile.verify.curves:
        table.add_row(str(curve.batch), str(curve.context), *_cells(profile, curve), *_knees(curve))
    marks = "* measured; others lie on the fitted curve; - outside the curve"
    if not profile.verify.anchors:
        marks = f"{profile.provenance.kind.upper()}: nothing here was measured; - outside the curve"
    table.caption = (
        f"{marks}; free: tokens within 10 or 50 % of the first, with a 95 % interval where one was "
        "estimated"
    )
    return table


def _cells(profile: Profile, curve: Curve) -> list[str]:
    sizes, seconds = [x.size for x in curve.knots], [x.seconds for x in curve.knots]
    measured = {
        x.size
        for x in profile.verify.anchors
        if (x.batch, x.context) == (curve.batch, curve.context)
    }
    return [
        f"{milliseconds_text(float(np.interp(x, sizes, seconds)))}{'*' if x in measured else ''}"
        if sizes[0] <= x <= sizes[-1]
        else MISSING
        for x in SHOWN_SIZES
    ]


def _knees(curve: Curve) -> tuple[str, str, str]:
    return (
        _free_text(curve.free_tokens_10, curve.free_tokens_10_interval),
        _free_text(curve.free_tokens_50, curve.free_tokens_50_interval),
        MISSING if curve.roofline is None else f"{curve.roofline.knee:.0f}",
    )


def _free_text(free: int | None, interval: tuple[int | None, int | None] | None) -> str:
    """Such as "6 (4-7)"; a bound beyond the curve is "..."."""
    text = MISSING if free is None else str(free)
    if interval is None:
        return text
    low, high = (BEYOND if x is None else str(x) for x in interval)
    return f"{text} ({low}-{high})"


def knee_sentences(profile: Profile) -> list[str]:
    """What is nearly free and where the knee lies, for the extreme batches and contexts."""
    curves = profile.verify.curves
    batches, contexts = ({x.batch or 0 for x in curves}, {x.context or 0 for x in curves})
    corners = set(product((min(batches), max(batches)), (min(contexts), max(contexts))))
    sentences = []
    for curve in (x for x in curves if x.place in corners):
        last = curve.knots[-1].size
        free = last if curve.free_tokens_10 is None else curve.free_tokens_10
        knee = "" if curve.roofline is None else f", the knee is at {curve.roofline.knee:.0f}"
        tokens = "1 token is" if free == 1 else f"{free} tokens are"
        sentences.append(
            f"at batch {curve.batch}, context {curve.context}: up to {tokens} nearly free "
            f"(within 10 % of {curve.knots[0].size}){knee}"
        )
    return sentences


def other_table(profile: Profile) -> Table:
    """Plain decoding, overhead and each drafter at their smallest and largest anchors."""
    surfaces = {"plain_decode": profile.plain_decode, "round_overhead": profile.round_overhead}
    for drafter, costs in profile.drafters.items():
        surfaces[f"draft_step ({drafter})"] = costs.draft_step
        surfaces[f"draft_catchup ({drafter})"] = costs.draft_catchup
    table = _table("everything else in a round")
    for name in ("quantity", "batch", "size", "context", "seconds", "spread", "samples"):
        table.add_column(name, justify="left" if name == "quantity" else "right")
    for name, surface in surfaces.items():
        for cells in dict.fromkeys(_ends(surface)):
            table.add_row(name, *cells)
    return table


def _ends(surface: Surface) -> list[tuple[str, ...]]:
    """Cells of the smallest and the largest anchor; of a surface without any, of its corners."""
    measured = [
        (x.batch, x.size, x.context, x.seconds, seconds_text(x.spread), str(x.samples))
        for x in surface.anchors
    ]
    corners = [
        (x.batch, y.size, x.context, y.seconds, MISSING, MISSING)
        for x in surface.curves
        for y in x.knots
    ]
    ordered = sorted(measured or corners, key=lambda x: (x[0] or 0, x[2] or 0, x[1]))
    return [
        (
            str(size if batch is None else batch),  # plain decoding: one token per request
            str(size),
            MISSING if context is None else str(context),
            seconds_text(seconds),
            *rest,
        )
        for batch, size, context, seconds, *rest in (ordered[0], ordered[-1])
    ]


def quality_table(profile: Profile) -> Table:
    """Errors on held-out passes, all and by stratum."""
    quality = profile.quality
    floor = percent_text(quality.noise_floor_pct)
    table = _table(f"held-out error of verify passes (noise floor {floor})")
    for name in ("passes", "count", "mean", "median", "p95", "max", "signed"):
        table.add_column(name, justify="left" if name == "passes" else "right")
    for name, errors in {"all": quality.held_out, **quality.strata}.items():
        table.add_row(name, *_error_cells(errors))
    table.caption = "signed: above 0, passes are predicted too slow"
    return table


def _error_cells(errors: ErrorSummary) -> list[str]:
    values = (
        errors.mean_abs_pct,
        errors.median_abs_pct,
        errors.p95_abs_pct,
        errors.max_abs_pct,
        errors.bias_pct,
    )
    return [str(errors.count), *(percent_text(x) for x in values)]


def runs_table(runs: Sequence[Run], heading: str, sampling: Sampling = GREEDY) -> Table:
    """One line per policy and batch over all categories, then one per category as well."""
    table = _table(heading)
    columns = ["policy", "batch", "category", "tok/s", "speedup", "95 %", "modelled", "accepted"]
    columns += ["tree", "draft/verify/rest", "identical"]
    for name in columns:
        table.add_column(name, justify="left" if name in ("policy", "category") else "right")
    for run in (x for x in runs if x.category is None):
        table.add_row(*_run_cells(run))
    if len({x.category for x in runs}) > 2:  # of one category the pooled lines say it all
        table.add_section()
        for run in (x for x in runs if x.category is not None):
            table.add_row(*_run_cells(run))
    table.caption = run_notes(runs, sampling)
    return table


def calibration_table(runs: Sequence[Run]) -> Table:
    """How well path probabilities held, one line per policy and batch that verified drafts."""
    table = _table("path probabilities of verified nodes")
    for name in ("policy", "batch", "nodes", "expected calibration error"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for run in runs:
        if run.category is None and run.calibration_error is not None:
            error = percent_text(100 * run.calibration_error)
            table.add_row(run.policy, str(run.batch), str(run.verified_nodes), error)
    return table


def run_notes(runs: Sequence[Run], sampling: Sampling) -> str:
    """What the columns mean, how tokens were chosen, what must be known about the outputs."""
    ties = sum(x.ties or 0 for x in runs if x.category is None)
    choice = "" if sampling == GREEDY else f"tokens by {sampling.describe()}; "
    looping = [x.looping_share for x in runs if x.category is None]
    return (
        "tok/s and speedup by wall clock, - where nothing was measured here; modelled by the "
        "profile; accepted: draft tokens per round; tree: tokens verified per request, root "
        f"included; {choice}{ties} ties; up to {100 * max(looping):.0f} % of outputs loop"
    )


def _run_cells(run: Run) -> list[str]:
    measured, share = run.tokens_per_second, run.share
    parts = () if share is None else (share.draft, share.verify, share.overhead)
    return [
        run.policy,
        str(run.batch),
        run.category or ALL,
        MISSING if measured is None else f"{measured:.1f}",
        ratio_text(run.speedup),
        MISSING if run.speedup_low is None else f"{run.speedup_low:.2f}-{run.speedup_high:.2f}",
        ratio_text(run.modelled_speedup),
        f"{run.accepted_per_round:.2f}",
        f"{run.tree_size:.1f}",
        "/".join(f"{100 * x:.0f}" for x in parts) + " %" if parts else MISSING,
        MISSING if run.identical is None else ("yes" if run.identical else "NO"),
    ]


def simulated_table(runs: Sequence[SimulatedRun], heading: str) -> Table:
    """One line per policy, batch and context."""
    table = _table(heading)
    columns = ["policy", "batch", "context", "tok/s", "speedup", "95 %", "accepted", "tree"]
    for name in (*columns, "steps", "draft/verify/rest", "missing"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for run in runs:
        table.add_row(*_simulated_cells(run))
    table.caption = (
        "simulated: all seconds are the profile's, nothing was timed; context: tokens per request "
        f"charged for, {MISSING} as many as it had; accepted: draft tokens per round; tree: tokens "
        "verified per request, root included; steps: draft steps per round; missing: expansions "
        "asked for that the trace does not have"
    )
    return table


def _simulated_cells(run: SimulatedRun) -> list[str]:
    parts = (run.share.draft, run.share.verify, run.share.overhead)
    return [
        run.policy if run.setting is None else f"{run.policy} ({run.setting})",
        str(run.batch),
        MISSING if run.context is None else str(run.context),
        f"{run.tokens_per_second:.1f}",
        ratio_text(run.speedup),
        f"{run.speedup_low:.2f}-{run.speedup_high:.2f}",
        f"{run.accepted_per_round:.2f}",
        f"{run.tree_size:.1f}",
        f"{run.draft_steps:.1f}",
        "/".join(f"{100 * x:.0f}" for x in parts) + " %",
        percent_text(100 * run.missing),
    ]


def policies_table(policies: Sequence[type[Policy]]) -> Table:
    """Every policy with its rule and where it was published."""
    table = _table("policies")
    for name in ("policy", "rule", "published"):
        table.add_column(name, overflow="fold")
    for policy in policies:
        table.add_row(policy.name, policy.summary, policy.paper)
    return table


def options_table(policies: Sequence[type[Policy]]) -> Table:
    """Every option of every policy, one line each."""
    table = _table("their options, as in chain:k=2 or eagle2:m=16:depth=6")
    for name in ("policy", "option", "type", "range", "default", "meaning"):
        table.add_column(name, overflow="fold")
    for policy in policies:
        for option in list_options(policy.options_type):
            cells = (option.name, option.kind, option.range, option.default, option.meaning)
            table.add_row(policy.name, *cells)
    return table


def _table(title: str) -> Table:
    return Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")

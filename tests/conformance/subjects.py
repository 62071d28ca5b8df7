"""The profiles that the vectors are asked about: sound ones, and ones that a reader must refuse.

Their seconds are unrelated values, so that no rule is right by accident.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from smartprof.profile.canonical import checksum, readable
from smartprof.profile.schema import (
    AXES,
    SCHEMA_VERSION,
    Curve,
    DeviceKey,
    DrafterCosts,
    Execution,
    Key,
    Knot,
    Profile,
    Provenance,
    Quantity,
    Surface,
    spanned_domain,
)
from tests.profiles import make_anchor, make_curve, make_key, make_quality

ODD_NAME = 'Gerät "日本" \\ 😀 / \u2028 end'
# By code point the first comes first, by UTF-16 unit the second.
WIDE_A, SMILE = "\uff21", "😀"

Corners = dict[int, dict[int, tuple[float, float]]]  # by batch and size: seconds and half-width


@dataclass(frozen=True)
class Grid:
    """Where a surface has knots.

    stray: how far seconds lie from a line, as a share. ragged: curves end at different sizes.
    last_overhead: where those of round_overhead end.
    """

    batches: Sequence[int]
    contexts: Sequence[int]
    sizes: Sequence[int]
    stray: float = 0.4
    ragged: bool = False
    last_overhead: int = 1000


@dataclass(frozen=True)
class Subject:
    """The text of a profile's file, what is special about it, and whether a reader takes it."""

    text: str
    about: str
    accepted: bool


EAGER = Grid((1, 2, 5, 8), (0, 100, 700), (1, 2, 4, 9, 33, 64), stray=0.8, ragged=True)
GRAPH = Grid((1, 4, 16), (128, 1024), (1, 4, 7, 8, 9, 15, 16, 17, 32, 40, 48), last_overhead=40)
SINGLE = Grid((16,), (256,), (16, 24, 64))
AT_ZERO = Grid((2,), (0,), (6,))
STEEP = Grid((1, 8), (64,), (1, 8, 16, 32))
LONG = Grid((1,), (64,), (1, 2, 6000), last_overhead=6000)
# Size: seconds and half-width. A start that no first knot may follow, and dips of the larger batch,
# one right after its first knot, one beyond the last of the smaller batch: whether they count hangs
# on half-widths being held there.
STEEP_CURVES: Corners = {
    1: {1: (0.00113, 0.0), 8: (0.0417, 0.0211)},
    8: {8: (0.0423, 0.0131), 9: (0.0166, 0.0), 16: (0.0812, 0.0), 32: (0.0551, 0.0)},
}
# A fall that goes on beyond 4096 tokens.
LONG_CURVES: Corners = {1: {1: (0.0213, 0.0), 4000: (1.013, 0.0), 5000: (0.117, 0.0)}}


def subjects() -> dict[str, Subject]:
    """All of them, by file name."""
    eager = _document(EAGER, {"ngram": EAGER, "eagle3": SINGLE}, make_key())
    graph = _document(GRAPH, {"lm": GRAPH}, _graph_key())
    single = _document(SINGLE, {SMILE: SINGLE, WIDE_A: AT_ZERO}, make_key())
    steep = _document(STEEP, {}, make_key(), _verify(STEEP_CURVES))
    long = _document(LONG, {}, make_key(), _verify(LONG_CURVES))
    text = _sealed(single)
    return {
        "eager.json": Subject(_sealed(eager), "eager, two drafters, curves of many lengths", True),
        "graph.json": Subject(_sealed(graph), "CUDA graphs, dips, half-widths", True),
        "steep.json": Subject(_sealed(steep), "a steep start, a dip, no drafter", True),
        "long.json": Subject(_sealed(long), "passes longer than padding looks at", True),
        "single.json": Subject(text, "axes of one value, a drafter of one knot", True),
        "rewritten.json": Subject(
            _rewritten(text), "another order, white space, spelling of numbers and strings", True
        ),
        "version-1.json": Subject(_sealed(of_version_1(single)), "an older version", True),
        **{name: Subject(bad, why, False) for name, (bad, why) in _unacceptable(text).items()},
    }


def _unacceptable(text: str) -> dict[str, tuple[str, str]]:
    """Texts with one thing wrong; unless that is the checksum, it fits."""

    def with_version(version: object) -> str:
        return _sealed(json.loads(text) | {"schema_version": version})

    without_version, without_checksum = json.loads(text), json.loads(text)
    del without_version["schema_version"], without_checksum["checksum"]
    not_finite = json.loads(text)
    not_finite["quality"]["noise_floor_pct"] = float("nan")
    with_nan = _replaced(text, '"noise_floor_pct": 1.5', '"noise_floor_pct": NaN')
    with_nan = _replaced(with_nan, not_finite["checksum"], _fitting(not_finite))
    return {
        "edited.json": (_replaced(text, '"samples": 5', '"samples": 6'), "a digit was changed"),
        "respelled.json": (
            _replaced(text, '"noise_floor_pct": 1.5', '"noise_floor_pct": 1.50'),
            "a number was written in another way, the checksum was not",
        ),
        "no-checksum.json": (readable(without_checksum), "no checksum"),
        "version-3.json": (with_version(3), "schema_version of the future"),
        "version-0.json": (with_version(0), "a schema_version that never was"),
        "version-float.json": (with_version(2.0), "schema_version 2.0 is no integer"),
        "version-true.json": (with_version(True), "schema_version true is no integer"),
        "no-version.json": (_sealed(without_version), "no schema_version"),
        "twice.json": (
            _replaced(text, '"schema_version": 2', '"schema_version": 2, "schema_version": 2'),
            "a member twice",
        ),
        "nan.json": (with_nan, "NaN is no JSON"),
        "bom.json": ("\ufeff" + text, "a byte order mark"),
        "truncated.json": (text[: len(text) // 2], "half of a file"),
        "list.json": ("[]\n", "no object"),
    }


def of_version_1(document: dict[str, Any]) -> dict[str, Any]:
    """The same without what version 2 added."""
    found = json.loads(json.dumps(document)) | {"schema_version": 1}
    for name in ("first_draw", "repeatability", "regret", "outliers", "drifts"):
        del found["quality"][name]
    owners = [found, *found["drafters"].values()]
    surfaces = [x[y] for x in owners for y in AXES if y in x]
    for curve in (y for x in surfaces for y in x["curves"]):
        del curve["free_tokens_10_interval"], curve["free_tokens_50_interval"]
    return found


def _sealed(document: dict[str, Any]) -> str:
    """The text of a file with a checksum that fits, also of a document that is no profile."""
    return readable(document | {"checksum": _fitting(document)}) + "\n"


def _fitting(document: dict[str, Any]) -> str:
    """Python writes each number in one way only, so its compact form is the canonical one."""
    rest = {x: y for x, y in document.items() if x != "checksum"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def _rewritten(text: str) -> str:
    """The same values, in members of reversed order and in all the ways that JSON allows."""

    def reversed_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return dict(reversed(pairs))

    document = json.loads(text, object_pairs_hook=reversed_members)
    other = json.dumps(document, indent="\t", separators=(" ,", ":"), ensure_ascii=False)
    other = _replaced(other, '"noise_floor_pct":1.5', '"noise_floor_pct":0.15E+01')
    other = _replaced(other, '"wall_seconds":20.0', '"wall_seconds":2e1')
    other = _replaced(other, '"shapes":0', '"shapes":-0')
    other = _replaced(other, "/ ", "\\/ ")
    return _replaced(other, document["checksum"], checksum(other))


def _replaced(text: str, old: str, new: str) -> str:
    if old not in text:
        raise ValueError(f"expected {old!r} in the text of the profile, found it nowhere")
    return text.replace(old, new, 1)


def _graph_key() -> Key:
    device = DeviceKey(
        kind="cuda",
        name=ODD_NAME,
        uuid_digest="0011223344556677",
        memory_bytes=80 * 2**30,
        capability="9.0",
        driver="570.1",
        threads=None,
    )
    execution: Execution = "cuda_graph"
    changes = {"device": device, "dtype": "bfloat16", "execution": execution}
    return make_key().model_copy(update=changes | {"capture_sizes": [1, 8, 16, 32]})


def _document(
    grid: Grid, drafters: dict[str, Grid], key: Key, verify: Surface | None = None
) -> dict[str, Any]:
    dice = Random(len(grid.sizes))
    overhead = [x for x in grid.sizes if x <= grid.last_overhead]
    quality = make_quality().model_copy(update={"noise_floor_pct": 1.5, "wall_seconds": 20.0})
    profile = Profile(
        schema_version=SCHEMA_VERSION,
        created="2026-01-31T12:00:00Z",
        provenance=Provenance(kind="imported", command="made up", note=ODD_NAME),
        key=key,
        verify=verify or _surface("verify", grid, grid.sizes, dice),
        plain_decode=_surface("plain_decode", grid, grid.batches, dice),
        round_overhead=_surface("round_overhead", grid, overhead, dice),
        drafters={name: _costs(own, dice) for name, own in drafters.items()},
        quality=quality,
    )
    return profile.model_dump(mode="json")


def _costs(grid: Grid, dice: Random) -> DrafterCosts:
    return DrafterCosts(
        digest="fedcba9876543210",
        kind="ngram",
        draft_step=_surface("draft_step", grid, grid.sizes, dice),
        draft_catchup=_surface("draft_catchup", grid, grid.sizes, dice),
    )


def _surface(quantity: Quantity, grid: Grid, sizes: Sequence[int], dice: Random) -> Surface:
    axes = AXES[quantity]
    fixed = 0.002 if quantity == "round_overhead" else 0.02
    curves = []
    for batch in grid.batches if axes.batch else (None,):
        for context in grid.contexts if axes.context else (None,):
            own = [x for x in sizes if batch is None or axes.first_size == "any" or x > batch]
            if axes.first_size == "batch":
                own = [batch or 1, *own]
            kept = max(1, len(own) - (dice.randrange(3) if grid.ragged else 0))
            knots = [_knot(x, fixed, grid.stray, dice) for x in own[:kept]]
            curves.append(make_curve(batch, context, knots))
    return _on_curves(quantity, curves)


def _verify(corners: Corners) -> Surface:
    curves = [
        make_curve(
            batch,
            64,
            [Knot(size=x, seconds=y, ci_half_width=width) for x, (y, width) in knots.items()],
        )
        for batch, knots in corners.items()
    ]
    return _on_curves("verify", curves)


def _on_curves(quantity: Quantity, curves: list[Curve]) -> Surface:
    """Every fourth knot is no anchor."""
    knots = [(curve, knot) for curve in curves for knot in curve.knots]
    return Surface(
        size_axis=AXES[quantity].size,
        anchors=[make_anchor(*x) for i, x in enumerate(knots) if i % 4 != 3],
        curves=curves,
        domain=spanned_domain(curves),
    )


def _knot(size: int, fixed: float, stray: float, dice: Random) -> Knot:
    """fixed seconds and 2 % of them per unit of size, give or take; the half-width up to 15 %."""
    seconds = fixed * (1 + 0.02 * size) * dice.uniform(1 - stray, 1 + stray)
    width = seconds * dice.choice([0.0, 0.03, 0.15])
    return Knot(size=size, seconds=seconds, ci_half_width=round(width, 6))

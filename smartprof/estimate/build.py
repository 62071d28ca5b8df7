"""From a machine and shapes to an `analytic` profile: curves without anchors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from smartprof import __version__
from smartprof.calibrate.fit import fit_roofline, free_tokens
from smartprof.errors import InputError
from smartprof.estimate.machine import Machine
from smartprof.estimate.quantities import DraftNetwork, plain_decode, round_overhead, verify
from smartprof.format import bytes_text
from smartprof.models.shapes import ModelShape
from smartprof.profile.part import utc_now
from smartprof.profile.quality import UNMEASURED
from smartprof.profile.schema import (
    AXES,
    SCHEMA_VERSION,
    Curve,
    DeviceKey,
    DrafterCosts,
    Key,
    Knot,
    ModelKey,
    Profile,
    Provenance,
    Quantity,
    SoftwareKey,
    Surface,
    spanned_domain,
)

STEP = 0.01  # jumps from one size to the next that are named as steps
STRAIGHT = 5e-4  # knots that lie this close to the line between their neighbours are left out
DIGITS = 6  # of the seconds in the file
MEMORY_SHARE = 0.9  # of the device's memory that weights, caches and logits may take
LOGIT_BYTES = 4
UNUSED = "not used"
NOTHING = "an estimate from a data sheet: nothing here was measured"
DTYPES = {2: "bfloat16", 4: "float32"}

Seconds = Callable[[int, int, int], float]  # of batch, size and context


@dataclass(frozen=True)
class Grid:
    """Where an estimate is written down. tokens: of the largest passes of target and drafter."""

    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    contexts: tuple[int, ...] = (128, 512, 2048, 4096)
    tokens: int = 512

    def __post_init__(self) -> None:
        """Raise InputError unless both axes rise and the largest batch has some tokens each."""
        for name in ("batches", "contexts"):
            values = getattr(self, name)
            if list(values) != sorted(set(values)):
                raise InputError(f"--{name}: expected rising numbers, got {values}")
        if self.tokens < 2 * self.batches[-1]:
            raise InputError(
                f"--tokens: expected at least 2 for each of {self.batches[-1]} requests, got "
                f"{self.tokens}"
            )


def estimate_profile(
    machine: Machine, target: ModelShape, drafter: DraftNetwork, grid: Grid, command: str
) -> Profile:
    """An `analytic` profile. Raises InputError if not even the shortest context fits the memory."""
    contexts, warnings = _fitting(machine, target, drafter, grid)
    seconds: dict[Quantity, Seconds] = {
        "verify": lambda b, m, c: verify(machine, target, b, m, c),
        "plain_decode": lambda b, m, c: plain_decode(machine, target, m, c),
        "round_overhead": lambda b, m, c: round_overhead(machine, target, b, m),
        "draft_step": lambda b, m, c: drafter.step(machine, b, m, c),
        "draft_catchup": lambda b, m, c: drafter.catchup(machine, b, m, c),
    }
    surfaces = {x: _surface(x, y, machine, grid, contexts) for x, y in seconds.items()}
    return Profile(
        schema_version=SCHEMA_VERSION,
        created=utc_now(),
        provenance=Provenance(kind="analytic", command=command, note=machine.note),
        key=_key(machine, target),
        verify=surfaces["verify"],
        plain_decode=surfaces["plain_decode"],
        round_overhead=surfaces["round_overhead"],
        drafters={
            drafter.kind: DrafterCosts(
                digest=drafter.digest,
                kind=drafter.kind,
                draft_step=surfaces["draft_step"],
                draft_catchup=surfaces["draft_catchup"],
            )
        },
        quality=UNMEASURED.model_copy(
            update={"warnings": [NOTHING, *warnings, *_cache_warnings(machine, drafter)]}
        ),
        acceptance=None,
        checksum="",
    )


def _fitting(
    machine: Machine, target: ModelShape, drafter: DraftNetwork, grid: Grid
) -> tuple[tuple[int, ...], list[str]]:
    """The contexts that the largest batch has memory for, and a sentence on each of the others."""
    free = MEMORY_SHARE * machine.memory_bytes
    free -= machine.element_bytes * (target.parameters + drafter.elements)
    free -= LOGIT_BYTES * grid.tokens * target.vocab
    token = sum(x(machine.element_bytes) for x in (target.kv_bytes_per_token, drafter.cache_bytes))
    batch = grid.batches[-1]
    fits = tuple(x for x in grid.contexts if token * (batch * x + grid.tokens) <= free)
    if not fits:
        raise InputError(
            f"{target.name} with {batch} requests of {grid.contexts[0]} tokens does not fit in "
            f"{bytes_text(machine.memory_bytes)}: use fewer --batches, or another device"
        )
    left_out = [x for x in grid.contexts if x not in fits]
    return fits, [f"left out: context {x}: does not fit in memory" for x in left_out]


def _cache_warnings(machine: Machine, drafter: DraftNetwork) -> list[str]:
    size = machine.element_bytes * drafter.elements
    if machine.l2_bytes is None or size > machine.l2_bytes:
        return []
    return [
        f"the drafter's weights ({bytes_text(size)}) fit in the L2 cache "
        f"({bytes_text(machine.l2_bytes)}): draft steps may cost less than estimated"
    ]


def _surface(
    quantity: Quantity, seconds: Seconds, machine: Machine, grid: Grid, contexts: tuple[int, ...]
) -> Surface:
    axes = AXES[quantity]
    curves = [
        _curve(seconds, batch, context, _sizes(quantity, machine, grid, batch))
        for batch in (grid.batches if axes.batch else (None,))
        for context in (contexts if axes.context else (None,))
    ]
    return Surface(size_axis=axes.size, anchors=[], curves=curves, domain=spanned_domain(curves))


def _sizes(quantity: Quantity, machine: Machine, grid: Grid, batch: int | None) -> list[int]:
    """Powers of two, halves between, and both sides of every tile's edge; all batches."""
    if quantity == "plain_decode":
        return list(grid.batches)
    first = 1 if quantity == "draft_step" or batch is None else batch
    powers = [2**x for x in range(grid.tokens.bit_length())]
    tile = machine.tile_tokens[0]
    edges = range(tile, grid.tokens, tile) if tile > 1 else ()
    wanted = {first, grid.tokens, *powers, *(3 * x // 2 for x in powers)}
    wanted |= {x + y for x in edges for y in (0, 1)}
    return sorted(x for x in wanted if first <= x <= grid.tokens)


def _curve(seconds: Seconds, batch: int | None, context: int | None, sizes: list[int]) -> Curve:
    values = [float(f"{seconds(batch or x, x, context or 0):.{DIGITS}g}") for x in sizes]
    steps = [
        after
        for (before, after), (low, high) in zip(pairwise(sizes), pairwise(values), strict=True)
        if after == before + 1 and high > (1 + STEP) * low and after > sizes[0] + 1
    ]
    kept = _corners(sizes, values, set(steps))
    x, y = np.array(sizes, float), np.array(values)
    return Curve(
        batch=batch,
        context=context,
        knots=[Knot(size=sizes[i], seconds=values[i], ci_half_width=0.0) for i in kept],
        roofline=fit_roofline(x, y),
        free_tokens_10=free_tokens(x, y, 0.10),
        free_tokens_10_interval=None,
        free_tokens_50=free_tokens(x, y, 0.50),
        free_tokens_50_interval=None,
        steps=steps,
    )


def _corners(sizes: list[int], values: list[float], steps: set[int]) -> list[int]:
    """Indices of the knots without which the curve would be off by more than `STRAIGHT`."""
    kept = [0]
    for index in range(1, len(sizes) - 1):
        start, end = kept[-1], index + 1
        ends = [start, end]
        line = np.interp(sizes[start:end], np.take(sizes, ends), np.take(values, ends))
        off = np.abs(line / np.array(values[start:end]) - 1)
        is_step = sizes[index] in steps or sizes[index] + 1 in steps
        if is_step or off.max() > STRAIGHT:
            kept.append(index)
    return [*kept, len(sizes) - 1] if len(sizes) > 1 else kept


def _key(machine: Machine, target: ModelShape) -> Key:
    return Key(
        device=DeviceKey(
            kind=machine.kind,  # type: ignore[arg-type]
            name=machine.name,
            uuid_digest=None,
            memory_bytes=machine.memory_bytes,
            capability=machine.capability,
            driver=None,
            threads=None,
        ),
        software=SoftwareKey(python=UNUSED, torch=UNUSED, smartprof=__version__, cuda=None),
        target=ModelKey(name=target.name, digest=target.digest, parameters=target.parameters),
        dtype=DTYPES[machine.element_bytes],  # type: ignore[arg-type]
        execution=machine.execution,  # type: ignore[arg-type]
        capture_sizes=[],
    )

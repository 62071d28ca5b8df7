"""Two profiles set side by side: by quantity and region, how their seconds differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from smartprof.errors import DomainError, ProfileError
from smartprof.profile.schema import Profile, Quantity, Surface
from smartprof.profile.surface import SurfaceEvaluator
from smartprof.profile.verdicts import Verdict, judge

SMALL, LARGE = 8, 64  # sizes up to here are small, from here on large
Point = tuple[int | None, int, int | None]  # batch, size, context


@dataclass(frozen=True)
class Region:
    """Points of one kind.

    quantity, drafter: whose seconds; no drafter for those of the target. name: of the kind. points:
    places compared. ratio: median of other / one. half_width, other_half_width: medians of the
    relative 95 % half-widths. apart, apart_p95: how much the two differ either way, over their
    mean: median and 95th percentile.
    """

    quantity: Quantity
    drafter: str | None
    name: str
    points: int
    ratio: float
    half_width: float
    other_half_width: float
    apart: float
    apart_p95: float

    @property
    def verdict(self) -> Verdict:
        """What the ratio says of the other profile."""
        return judge(self.ratio, self.half_width, self.other_half_width)


@dataclass(frozen=True)
class Pair:
    """A point with the seconds and relative half-widths of both profiles there."""

    point: Point
    ratio: float
    half_width: float
    other_half_width: float


def common_drafters(one: Profile, other: Profile, drafter: str | None = None) -> tuple[str, ...]:
    """Drafters that both price; ProfileError if the one asked for is not among them."""
    common = tuple(sorted(set(one.drafters) & set(other.drafters)))
    if drafter is None:
        return common
    if drafter not in common:
        raise ProfileError(
            f"expected --drafter as one that both profiles price ({', '.join(common) or 'none'}), "
            f"got {drafter!r}"
        )
    return (drafter,)


def compare_seconds(one: Profile, other: Profile, drafters: Sequence[str]) -> list[Region]:
    """Every quantity of both by region, at the measured points of either that lie in both domains.

    Empty regions are left out, and quantities that have no point in common.
    """
    found = []
    for quantity, drafter in _quantities(drafters):
        surfaces = surface_of(one, quantity, drafter), surface_of(other, quantity, drafter)
        pairs = list(_pairs(quantity, *surfaces))
        found += [_region(quantity, drafter, x, y) for x, y in _kinds(pairs).items() if y]
    return found


def surface_of(profile: Profile, quantity: Quantity, drafter: str | None) -> Surface:
    """Of the target, or of a drafter that the profile has."""
    owner = profile if drafter is None else profile.drafters[drafter]
    surface: Surface = getattr(owner, quantity)
    return surface


def _quantities(drafters: Sequence[str]) -> Iterator[tuple[Quantity, str | None]]:
    yield from product(("verify", "plain_decode", "round_overhead"), (None,))
    for drafter in drafters:
        yield from product(("draft_step", "draft_catchup"), (drafter,))


def _pairs(quantity: Quantity, one: Surface, other: Surface) -> Iterator[Pair]:
    first, second = SurfaceEvaluator(one, quantity), SurfaceEvaluator(other, quantity)
    for point in sorted({*_points(one), *_points(other)}, key=_order):
        if not (_inside(first, point) and _inside(second, point)):
            continue
        batch, size, context = point
        where = (batch, [size], context)
        seconds = float(first.seconds(*where)[0]), float(second.seconds(*where)[0])
        widths = float(first.half_widths(*where)[0]), float(second.half_widths(*where)[0])
        yield Pair(point, seconds[1] / seconds[0], widths[0] / seconds[0], widths[1] / seconds[1])


def _points(surface: Surface) -> list[Point]:
    """What was measured; of a surface without measurements its corners."""
    if surface.anchors:
        return [(x.batch, x.size, x.context) for x in surface.anchors]
    return [(x.batch, y.size, x.context) for x in surface.curves for y in x.knots]


def _order(point: Point) -> tuple[int, int, int]:
    batch, size, context = point
    return batch or 0, size, context or 0


def _inside(evaluator: SurfaceEvaluator, point: Point) -> bool:
    try:
        return evaluator.tier(*point) != "extrapolated"
    except DomainError:
        return False


def _kinds(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """All, by size, and those of long context where there are several contexts."""
    contexts = [x.point[2] or 0 for x in pairs]
    longest = max(contexts, default=0)
    kinds = {
        "all": list(pairs),
        f"small (to {SMALL})": [x for x in pairs if x.point[1] <= SMALL],
        f"medium ({SMALL + 1}-{LARGE - 1})": [x for x in pairs if SMALL < x.point[1] < LARGE],
        f"large (from {LARGE})": [x for x in pairs if x.point[1] >= LARGE],
    }
    if len(set(contexts)) > 1:
        long = [x for x in pairs if (x.point[2] or 0) >= longest / 2]
        kinds[f"long context (from {longest // 2})"] = long
    return kinds


def _region(quantity: Quantity, drafter: str | None, name: str, pairs: Sequence[Pair]) -> Region:
    values = np.array([(x.ratio, x.half_width, x.other_half_width) for x in pairs])
    apart = 2 * np.abs(values[:, 0] - 1) / (values[:, 0] + 1)
    ratio, half_width, other_half_width = np.median(values, axis=0).tolist()
    return Region(
        quantity=quantity,
        drafter=drafter,
        name=name,
        points=len(pairs),
        ratio=ratio,
        half_width=half_width,
        other_half_width=other_half_width,
        apart=float(np.median(apart)),
        apart_p95=float(np.quantile(apart, 0.95)),
    )

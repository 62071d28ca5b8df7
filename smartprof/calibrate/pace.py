"""How fast the device was at each visit, told by all visits together. Pure arithmetic.

A shared machine changes its pace for seconds or minutes, and not for all passes alike: memory that
others use slows the small ones, a lower clock the large ones. Where two points of a curve were
timed at different paces, the curve shows a step that is none. So every visit is taken for

    log seconds = usual log seconds of its point + sum of mix_k(w) * pace_k(t)

with w the share of reading in what a pass reads and computes, each at the best rate that was seen:
its own seconds do not show how long it waits for memory. The paces are those of passes that read,
of those that mostly compute and of long ones (`PURE`); how passes between mix them is learned at
`KNOTS` for all times at once, near the straight line unless the visits say otherwise. A host whose
memory gets faster while its arithmetic gets slower slows some of them more than either end.

Paces are constant over short stretches of time and seldom jump: the least sum of absolute
residuals, of jumps (total variation; those of all paces at once count as one), and, so that nothing
is left open, of a little of the squared paces. All are solved for in turns, by reweighted least
squares; small residuals and jumps, by the noise that the residuals show, count squared.

What a pass takes at another pace is told to some percent only, so such visits count where a point
has hardly any others.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import block_diag, csr_matrix, diags, eye, kron
from scipy.sparse.linalg import splu

from smartprof.calibrate.plan import Point
from smartprof.calibrate.visits import Samples, Visit

PACED = ("verify", "plain_decode")  # passes of the target: what they wait for is known
# Shares of reading: those that have a pace of their own, and those at which mixes are learned, most
# of them about the bend, where reading and computing take equally long.
PURE = (0.0, 0.3, 1.0)
KNOTS = (0.0, 0.15, 0.3, 0.45, 0.55, 0.7, 1.0)
STRETCH_SECONDS = 0.5  # of measuring
ROUNDS = 20  # of reweighting
DEVIATIONS = 1.4826  # standard deviations of normal noise in a median absolute deviation
LEAST_NOISE = 0.002  # relative
SMALL_JUMP = 1.0  # noises; a smaller jump counts squared
DOUBT = 0.005  # visits' worth of belief that the pace of a stretch is as usual
STRAIGHT = 0.01  # the same, that passes mix paces as the straight line says
CALM_VISITS = 2  # of a point, with which its others count no more
USUALLY_STRAYED = 0.1  # share of visits that stray further than is worth a warning


def paces(
    visits: Sequence[Visit], context_work: tuple[float, float] = (0.0, 0.0)
) -> NDArray[np.float64]:
    """Seconds of each visit over those at the usual pace, [n]; 1 for what is no pass of the target.

    Usual is the median over these visits. context_work: what each token of a request's context adds
    to what a pass reads, in weights, and to what each of its tokens computes, in tokens without
    context.
    """
    found = np.ones(len(visits))
    paced = np.array([i for i, x in enumerate(visits) if x.point.quantity in PACED], int)
    if paced.size:
        seconds = np.array([sum(x.samples) for x in visits])
        times = (np.cumsum(seconds) - seconds / 2)[paced]
        number = {x: i for i, x in enumerate(dict.fromkeys(visits[i].point for i in paced))}
        points = np.array([number[visits[i].point] for i in paced])
        logs = np.log([np.median(visits[i].samples) for i in paced])
        work = np.array([_work(x, *context_work) for x in number]).T
        found[paced] = np.exp(_strayed(times, points, logs, work))
    return found


def steadied(
    visits: Sequence[Visit], found: NDArray[np.float64], tolerance: float = math.inf
) -> Samples:
    """Samples of these visits, by point, as they would be at the usual pace.

    found: their `paces`. tolerance: visits whose pace strayed further are left out where a point
    has `CALM_VISITS` others.
    """
    samples: Samples = {}
    unsteady, beyond = restless(visits, found, tolerance), _beyond(found, tolerance)
    for visit, pace, strayed in zip(visits, found.tolist(), beyond.tolist(), strict=True):
        if not strayed or visit.point in unsteady:
            samples.setdefault(visit.point, []).extend(x / pace for x in visit.samples)
    return samples


def restless(
    visits: Sequence[Visit], found: NDArray[np.float64], tolerance: float
) -> dict[Point, float]:
    """Points with fewer than `CALM_VISITS` visits at about the usual pace; how far others strayed.

    The logarithm of the pace of the calmest visit that is none of these. found: of `paces`.
    """
    strayed: dict[Point, list[float]] = {}
    calm = Counter[Point]()
    beyond = _beyond(found, tolerance).tolist()
    for visit, pace, far in zip(visits, np.abs(np.log(found)).tolist(), beyond, strict=True):
        if far:
            strayed.setdefault(visit.point, []).append(pace)
        else:
            calm[visit.point] += 1
    return {x: min(y) for x, y in strayed.items() if calm[x] < CALM_VISITS}


def spells(found: NDArray[np.float64], tolerance: float) -> int:
    """How often, visit after visit, the pace strayed from the usual one. found: of `paces`."""
    strayed = _beyond(found, tolerance)
    return int(np.count_nonzero(strayed[1:] & ~strayed[:-1]) + strayed[:1].sum())


def pace_warnings(found: NDArray[np.float64], tolerance: float) -> list[str]:
    """What a reader should know of a device that was not steady. found: of `paces`."""
    share = float(_beyond(found, tolerance).mean()) if found.size else 0.0
    if share <= USUALLY_STRAYED:
        return []
    low, high = np.quantile(found, [0.05, 0.95])
    return [
        f"the device changed its pace while measuring: {100 * share:.0f} % of the visits strayed "
        f"(passes took {low:.2f} to {high:.2f} of their usual seconds); such timings were "
        "left out, or set right where there were no others: calibrate again when it is steady"
    ]


def _beyond(found: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
    return np.abs(np.log(found)) > np.log1p(tolerance)


def _strayed(
    times: NDArray[np.float64],
    points: NDArray[np.int64],
    logs: NDArray[np.float64],
    work: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Logarithm of each visit's pace, [n], from its time, its point's number, its log seconds.

    work: what each point reads and what it computes, [2, points].
    """
    _, stretches = np.unique(np.floor(times / STRETCH_SECONDS), return_inverse=True)
    usual = np.array([np.median(logs[points == x]) for x in range(points.max() + 1)])
    levels = np.zeros((len(PURE), stretches.max() + 1))
    strayed = np.zeros(len(logs))
    for _ in range(ROUNDS):
        left = logs - usual[points] - strayed
        noise = max(DEVIATIONS * float(np.median(np.abs(left))), LEAST_NOISE)
        weights = noise / np.maximum(np.abs(left), noise)
        hats = _hats(_memory_share(np.exp(usual), work), KNOTS)
        mixes = _mixes(hats[:, points], levels[:, stretches], logs - usual[points], weights)
        parts = mixes @ hats
        design = _design(points, stretches, parts[:, points], len(usual), levels.shape[1])
        usual, levels = _solved(design, logs, weights, levels, noise)
        middle = np.median(levels[:, stretches], axis=1, keepdims=True)
        usual, levels = usual + (parts * middle).sum(axis=0), levels - middle
        strayed = (parts[:, points] * levels[:, stretches]).sum(axis=0)
    return strayed


def _work(point: Point, reads: float, computes: float) -> tuple[float, float]:
    """What a pass reads, in weights, and what it computes, in tokens without context."""
    read = 1 + reads * point.batch * point.context
    return read, point.size * (1 + computes * point.context)


def _memory_share(usual: NDArray[np.float64], work: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of reading in reading and computing, one after the other at the best rates seen, [points]."""
    reading, computing = work * np.min(usual / work, axis=1, keepdims=True)
    return reading / (reading + computing)


def _hats(
    shares: Sequence[float] | NDArray[np.float64], at: Sequence[float]
) -> NDArray[np.float64]:
    """How much of each of the values at `at` a straight line has at these shares, [at, shares]."""
    return np.stack([np.interp(shares, at, x) for x in np.eye(len(at))])


def _mixes(
    hats: NDArray[np.float64],
    levels: NDArray[np.float64],
    logs: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """How much of each pace is in a pass at each knot, [paces, knots], by ridge regression.

    hats, levels: of each visit, [knots, n] and [paces, n]; logs: how it strayed from the usual.
    """
    straight = _hats(KNOTS, PURE)
    free = ~np.isin(KNOTS, PURE)
    left = logs - (straight @ hats * levels).sum(axis=0)
    columns = (levels[:, None] * hats[free]).reshape(-1, len(logs))
    normal = columns * weights @ columns.T + STRAIGHT * np.eye(len(columns))
    bent = np.linalg.solve(normal, columns @ (weights * left))
    mixes = straight.copy()
    mixes[:, free] += bent.reshape(len(PURE), -1)
    return mixes


def _design(
    points: NDArray[np.int64],
    stretches: NDArray[np.int64],
    parts: NDArray[np.float64],
    num_points: int,
    num_stretches: int,
) -> csr_matrix:
    """What each visit, a row, is the sum of: its point, and the paces of its stretch by parts."""
    firsts = num_points + num_stretches * np.arange(len(parts))
    columns = np.concatenate([points, *(x + stretches for x in firsts)])
    values = np.concatenate([np.ones(len(points)), *parts])
    rows = np.tile(np.arange(len(points)), 1 + len(parts))
    shape = (len(points), num_points + len(parts) * num_stretches)
    return csr_matrix((values, (rows, columns)), shape=shape)


def _solved(
    design: csr_matrix,
    logs: NDArray[np.float64],
    weights: NDArray[np.float64],
    before: NDArray[np.float64],
    noise: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Usual log seconds of the points, and levels of the paces, [paces, stretches]: least squares.

    weights: of the visits; before: levels of the last round, by which jumps are weighted.
    """
    first = design.shape[1] - before.size
    normal = design.T @ design.multiply(weights[:, None])
    normal = normal + block_diag([csr_matrix((first, first)), _penalty(before, noise)])
    # Positive definite: without pivoting, in an order that keeps its few neighbours together.
    factors = splu(
        normal.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    found = factors.solve(design.T @ (weights * logs))
    return found[:first], found[first:].reshape(before.shape)


def _penalty(before: NDArray[np.float64], noise: float) -> csr_matrix:
    """What paces cost by their jumps and by themselves: a quadratic form over levels, flattened.

    before, noise: of `_solved`.
    """
    count, stretches = before.shape
    jumps = kron(eye(count), diags([-1.0, 1.0], [0, 1], (max(stretches - 1, 0), stretches)))
    sizes = np.tile(np.linalg.norm(np.diff(before, axis=1), axis=0), count)
    stiffness = diags(noise / np.maximum(sizes, SMALL_JUMP * noise))
    return csr_matrix(jumps.T @ stiffness @ jumps + DOUBT * eye(before.size))

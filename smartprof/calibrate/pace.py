"""How fast the device was at each visit, told by all visits together. Pure arithmetic.

A shared machine changes its pace for seconds or minutes, and not for all passes alike: memory that
others use slows the small ones, a lower clock the large ones. Where two points of a curve were
timed at different paces, the curve shows a step that is none. So every visit is taken for

    log seconds = usual log seconds of its point + pace(w, t)

with w the share of the point's usual seconds in which memory is read, by the fastest pass: what
that took, times how much more than the weights alone this one reads for its contexts. The pace is
linear in w between `KNOTS`: a host whose memory gets faster while its arithmetic gets slower slows
the passes between most, which no line from end to end says. It is constant over short stretches of
time and seldom jumps: the least sum of absolute residuals, of jumps (total variation; those of all
knots at once count as one), and, so that nothing is left open, of a little of the squared paces and
of their bends. All are solved for at once, by reweighted least squares; small residuals and jumps,
by the noise that the residuals show, count squared.

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
KNOTS = (0.0, 0.15, 0.4, 0.7, 1.0)  # shares of the floor, between which the pace is linear
STRETCH_SECONDS = 0.5  # of measuring
ROUNDS = 12  # of reweighting
DEVIATIONS = 1.4826  # standard deviations of normal noise in a median absolute deviation
LEAST_NOISE = 0.002  # relative
SMALL_JUMP = 1.0  # noises; a smaller jump counts squared
DOUBT = 0.005  # visits' worth of belief that the pace of a stretch is as usual
STRAIGHT = 0.002  # the same, that it has no bend at a knot
CALM_VISITS = 2  # of a point, with which its others count no more
USUALLY_STRAYED = 0.1  # share of visits that stray further than is worth a warning


def paces(visits: Sequence[Visit], context_share: float = 0.0) -> NDArray[np.float64]:
    """Seconds of each visit over those at the usual pace, [n]; 1 for what is no pass of the target.

    Usual is the median over these visits. context_share: bytes that a pass reads for each token of
    each request's context, over those of the weights.
    """
    found = np.ones(len(visits))
    paced = np.array([i for i, x in enumerate(visits) if x.point.quantity in PACED], int)
    if paced.size:
        seconds = np.array([sum(x.samples) for x in visits])
        times = (np.cumsum(seconds) - seconds / 2)[paced]
        number = {x: i for i, x in enumerate(dict.fromkeys(visits[i].point for i in paced))}
        points = np.array([number[visits[i].point] for i in paced])
        logs = np.log([np.median(visits[i].samples) for i in paced])
        read = np.array([1 + context_share * x.batch * x.context for x in number])
        found[paced] = np.exp(_strayed(times, points, logs, np.log(read)))
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
    read: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Logarithm of each visit's pace, [n], from its time, its point's number, its log seconds.

    read: logarithm of what each point reads from memory over the weights alone, [points].
    """
    _, stretches = np.unique(np.floor(times / STRETCH_SECONDS), return_inverse=True)
    usual = np.array([np.median(logs[points == x]) for x in range(points.max() + 1)])
    levels = np.zeros((len(KNOTS), stretches.max() + 1))
    strayed = np.zeros(len(logs))
    for _ in range(ROUNDS):
        parts = _parts(np.exp(np.min(usual - read) + read - usual))
        left = logs - usual[points] - strayed
        noise = max(DEVIATIONS * float(np.median(np.abs(left))), LEAST_NOISE)
        design = _design(points, stretches, parts[:, points], len(usual), levels.shape[1])
        usual, levels = _solved(
            design, logs, noise / np.maximum(np.abs(left), noise), levels, noise
        )
        middle = np.median(levels[:, stretches], axis=1, keepdims=True)
        usual, levels = usual + (parts * middle).sum(axis=0), levels - middle
        strayed = (parts[:, points] * levels[:, stretches]).sum(axis=0)
    return strayed


def _parts(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of the pace at each knot is in that at these shares, [knots, n]."""
    return np.stack([np.interp(shares, KNOTS, x) for x in np.eye(len(KNOTS))])


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
    """Usual log seconds of the points, and levels of the paces, [knots, stretches]: least squares.

    weights: of the visits; before: levels of the last round, by which jumps are weighted.
    """
    first = design.shape[1] - before.size
    starts = first + np.arange(before.size).reshape(before.shape)[:, :-1].ravel()
    rows = np.arange(len(starts))
    values = np.concatenate([-np.ones(len(starts)), np.ones(len(starts))])
    columns = np.concatenate([starts, starts + 1])
    jumps = csr_matrix((values, (np.tile(rows, 2), columns)), shape=(len(rows), design.shape[1]))
    sizes = np.tile(np.linalg.norm(np.diff(before, axis=1), axis=0), len(before))
    stiffness = noise / np.maximum(sizes, SMALL_JUMP * noise)
    doubts = np.repeat([0.0, DOUBT], [first, before.size])
    normal = design.T @ design.multiply(weights[:, None]) + diags(doubts)
    normal = normal + jumps.T @ jumps.multiply(stiffness[:, None])
    bends = kron(np.diff(np.eye(len(before)), n=2, axis=0), eye(before.shape[1]))
    normal = normal + STRAIGHT * block_diag([csr_matrix((first, first)), bends.T @ bends])
    # Positive definite: without pivoting, in an order that keeps its few neighbours together.
    factors = splu(
        normal.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    found = factors.solve(design.T @ (weights * logs))
    return found[:first], found[first:].reshape(before.shape)

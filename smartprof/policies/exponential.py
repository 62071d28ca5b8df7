"""The cost curve of SMART as published: an exponential through the origin.

"SMART: When is it Actually Worth Expanding a Speculative Tree?", arXiv 2604.09731::

    C(n) = gamma * (exp(delta * n ** rho) - 1)

with C(0) = 0, whatever the weights cost to read. Fitted by least squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

Floats = NDArray[np.float64]

# The search, in terms of the exponent at the largest size and of rho. Beyond these edges curves
# through a handful of points are alike.
EXPONENTS = (1e-5, 30.0)
POWERS = (0.02, 12.0)
GRID = 96  # points along each
TOLERANCE = 1e-12
MOST_STEPS = 60  # of a descent; along a flat valley it would go on for long and gain nothing
BASINS = 8  # parts of the range of rho; the error may have a minimum of its own in several


@dataclass(frozen=True)
class ExponentialCost:
    """Seconds of n tokens: gamma * (exp(delta * n ** rho) - 1). All three positive."""

    gamma: float
    delta: float
    rho: float

    def seconds(self, tokens: ArrayLike) -> Floats:
        """float64, as `tokens` (>= 0): the curve."""
        size = np.asarray(tokens, np.float64)
        answer: Floats = self.gamma * np.expm1(self.delta * size**self.rho)
        return answer

    def slope(self, tokens: ArrayLike) -> Floats:
        """float64, as `tokens` (> 0): seconds per token, the curve's derivative."""
        size = np.asarray(tokens, np.float64)
        inner = self.delta * size**self.rho
        answer: Floats = self.gamma * self.rho * inner / size * np.exp(inner)
        return answer


def fit_exponential(tokens: ArrayLike, seconds: ArrayLike) -> ExponentialCost:
    """The least-squares curve through some passes.

    gamma is linear given the other two, so the search is over two numbers: a grid finds a start in
    every part of the range of rho, Gauss-Newton steps lead from each to the bottom of its basin,
    and the lowest counts. Sizes are scaled to the largest, so that the exponent there and rho
    have edges that fit all sizes.

    Parameters
    ----------
    tokens : [n], positive, not all equal
    seconds : [n], positive

    Raises
    ------
    ValueError
        If the points cannot determine a curve or have no positive seconds.

    References
    ----------
    Golub and Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems
    whose variables separate", SIAM J. Numer. Anal. 10 (1973).

    Examples
    --------
    >>> points = ExponentialCost(0.02, 0.3, 0.8).seconds([2, 4, 8, 16, 32])
    >>> fit = fit_exponential([2, 4, 8, 16, 32], points)
    >>> [round(x, 4) for x in (fit.gamma, fit.delta, fit.rho)]
    [0.02, 0.3, 0.8]
    """
    size, cost = np.asarray(tokens, np.float64), np.asarray(seconds, np.float64)
    if len(np.unique(size)) < 2 or size.min() <= 0 or cost.min() <= 0:
        raise ValueError(
            f"expected positive seconds at two or more positive sizes, got {cost.tolist()} at "
            f"{size.tolist()}"
        )
    share = size / size.max()
    fits = [_descend(x, share, cost / cost.max()) for x in _starts(share, cost)]
    exponent, rho = min(fits, key=lambda x: (_residuals(x, share, cost) ** 2).sum())
    basis = np.expm1(exponent * share**rho)
    return ExponentialCost(
        gamma=float(basis @ cost / (basis @ basis)),
        delta=float(exponent / size.max() ** rho),
        rho=float(rho),
    )


def _basis(shape: Floats, share: Floats) -> Floats:
    """The curve without its factor. shape: [..., 2], exponent and rho; answers [..., n].

    Divided by its value at the largest size, so that factors of different curves compare.
    """
    exponent, rho = shape[..., :1], shape[..., 1:]
    answer: Floats = np.expm1(exponent * share**rho) / np.expm1(exponent)
    return answer


def _residuals(shape: Floats, share: Floats, cost: Floats) -> Floats:
    """[..., n]: of the best factor for each shape."""
    basis = _basis(shape, share)
    factor = (basis @ cost) / (basis * basis).sum(axis=-1)
    answer: Floats = cost - factor[..., None] * basis
    return answer


def _starts(share: Floats, cost: Floats) -> Floats:
    """[BASINS, 2]: exponent and rho, strictly inside the edges; the best of each part."""
    powers, exponents = (
        np.geomspace(low, high, GRID + 2)[1:-1] for low, high in (POWERS, EXPONENTS)
    )
    grid = np.stack(np.meshgrid(exponents, powers), axis=-1)  # [powers, exponents, 2]
    shapes = grid.reshape(BASINS, -1, 2)
    best = (_residuals(shapes, share, cost) ** 2).sum(axis=-1).argmin(axis=1)
    starts: Floats = shapes[np.arange(BASINS), best]
    return starts


def _descend(start: Floats, share: Floats, cost: Floats) -> Floats:
    """[2]: exponent and rho at the bottom of the basin around `start`."""
    edges = np.log([EXPONENTS, POWERS])
    found = least_squares(
        lambda x: _residuals(np.exp(x), share, cost),
        np.log(start),
        bounds=(edges[:, 0], edges[:, 1]),
        xtol=TOLERANCE,
        ftol=TOLERANCE,
        gtol=TOLERANCE,
        max_nfev=MOST_STEPS,
    )
    bottom: Floats = np.exp(found.x)
    return bottom

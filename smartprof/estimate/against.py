"""How far an estimate is off where a profile was measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smartprof.errors import InputError, ProfileError
from smartprof.estimate.machine import Machine
from smartprof.estimate.quantities import verify
from smartprof.models.shapes import NAMED_SHAPES, ModelShape
from smartprof.profile.schema import Profile


@dataclass(frozen=True)
class Errors:
    """Of an estimate in percent of the measured seconds, [n] signed, at the profile's anchors."""

    batches: NDArray[np.int64]
    signed_pct: NDArray[np.float64]

    @property
    def batch_sizes(self) -> list[int]:
        """Those measured, ascending."""
        return [int(x) for x in np.unique(self.batches)]

    def at(self, batch: int) -> Errors:
        """Those of one batch size."""
        chosen = self.batches == batch
        return Errors(self.batches[chosen], self.signed_pct[chosen])

    @property
    def median_abs_pct(self) -> float:
        """Median size of the error."""
        return float(np.median(np.abs(self.signed_pct)))

    @property
    def p95_abs_pct(self) -> float:
        """95th percentile of its size."""
        return float(np.quantile(np.abs(self.signed_pct), 0.95))

    @property
    def bias_pct(self) -> float:
        """Mean with its sign."""
        return float(self.signed_pct.mean())


def target_of(profile: Profile) -> ModelShape:
    """The named shape that a profile's key identifies. ProfileError if none has its digest."""
    for shape in NAMED_SHAPES.values():
        if shape.digest == profile.key.target.digest:
            return shape
    raise ProfileError(
        f"expected a profile of a named shape, got {profile.key.target.name} with digest "
        f"{profile.key.target.digest}: known are {', '.join(NAMED_SHAPES)}"
    )


def verify_errors(machine: Machine, profile: Profile) -> Errors:
    """Estimated against measured verify passes, at every anchor of the profile.

    Raises InputError for a profile that holds no measurement.
    """
    anchors = profile.verify.anchors
    if profile.provenance.kind == "analytic" or not anchors:
        raise InputError(
            f"expected a measured profile, got one that is {profile.provenance.kind}: an estimate "
            "can only be held against measurements"
        )
    target = target_of(profile)
    signed = [
        100 * (verify(machine, target, x.batch or 1, x.size, x.context or 0) / x.seconds - 1)
        for x in anchors
    ]
    return Errors(np.array([x.batch or 1 for x in anchors]), np.array(signed))

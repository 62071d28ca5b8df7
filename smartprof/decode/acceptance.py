"""Calibrated drafters of a run, and what they start from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from smartprof.decode.sampling import Sampling
from smartprof.drafters.base import Drafter
from smartprof.drafters.calibrated import CalibratedDrafter
from smartprof.errors import InputError
from smartprof.profile.acceptance import (
    AcceptanceFile,
    AcceptanceKey,
    DrafterKey,
    SamplingKey,
    load_acceptance,
)
from smartprof.profile.schema import ModelKey
from smartprof.trees.acceptance import FEATURES, Calibration

MakeDrafter = Callable[[], Drafter]


@dataclass(frozen=True)
class AcceptanceRequest:
    """What `decode` was asked to do about acceptance.

    start: the file to start from. freeze: learn nothing. save: the file to write. command: that
    the file to write names.
    """

    start: Path | None = None
    freeze: bool = False
    save: Path | None = None
    command: str = ""

    def __post_init__(self) -> None:
        """Raise InputError where nothing could be written."""
        if self.save and self.freeze and not self.start:
            raise InputError(
                "expected --acceptance FILE with --save-acceptance and --freeze, got none: nothing "
                "would be learned; leave out --freeze"
            )


def acceptance_key(
    drafter: Drafter, choice: str, target: ModelKey, sampling: Sampling
) -> AcceptanceKey:
    """Of what runs here. choice: how the user names the drafter."""
    settings = {x: y for x, y in asdict(sampling).items() if x != "seed"}
    return AcceptanceKey(
        drafter=DrafterKey(name=drafter.name, digest=drafter.digest, choice=choice),
        target=target,
        sampling=SamplingKey(**settings),
    )


@dataclass(frozen=True)
class AcceptanceStart:
    """What the drafters of a run start from. file: None to start from what they state."""

    request: AcceptanceRequest
    file: AcceptanceFile | None
    key: AcceptanceKey

    @classmethod
    def open(
        cls, request: AcceptanceRequest, key: AcceptanceKey, say: Callable[[str], None]
    ) -> AcceptanceStart:
        """Load the file, if there is one, and say what the run starts from, in one line.

        Raises InputError for a file of another drafter, target or sampling.
        """
        if request.start is None:
            after = "stay so" if request.freeze else "are corrected while decoding"
            say(f"no --acceptance: probabilities start as the drafter states them and {after}")
            return cls(request, None, key)
        found = load_acceptance(request.start)
        _require_fit(found, key, request.start)
        labels = sum(x.labels for x in found.sources.values())
        frozen = ", frozen" if request.freeze else ""
        say(f"acceptance from {request.start}: {labels} labels of {found.created}{frozen}")
        for what, was, now in (
            ("drafter", found.key.drafter.choice, key.drafter.choice),
            ("target", found.key.target.name, key.target.name),
        ):
            if was != now:
                say(f"warning: {request.start} was learned with {what} {was}, here is {now}")
        return cls(request, found, key)

    def maker(self, make: MakeDrafter) -> MakeDrafter:
        """Makes the same drafters, calibrated. Raises InputError for counts that do not fit."""

        def calibrated() -> Drafter:
            start = {} if self.file is None else calibrations_of(self.file)
            drafter = CalibratedDrafter(make(), start, keep_labels=self.request.save is not None)
            if self.file is not None:
                _recall(drafter, self.file, str(self.request.start))
            if self.request.freeze:
                drafter.freeze()
            return drafter

        return calibrated


def calibrations_of(found: AcceptanceFile) -> dict[str, Calibration]:
    """By source."""
    return {
        name: Calibration(np.array(x.weights), np.array(x.precision))
        for name, x in found.sources.items()
    }


def _recall(drafter: Drafter, found: AcceptanceFile, name: str) -> None:
    try:
        drafter.recall({x: np.array(y) for x, y in found.statistics.items()})
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{name}: expected the statistics of {drafter.digest}, got others ({error}): learn it "
            "again"
        ) from error


def _require_fit(found: AcceptanceFile, key: AcceptanceKey, path: Path) -> None:
    """What is learned of another drafter, target or sampling says nothing here."""
    compared = {
        "drafter": (key.drafter.digest, found.key.drafter.digest),
        "target": (key.target.digest, found.key.target.digest),
        "features": (list(FEATURES), found.features),
    }
    here, there = key.sampling.model_dump(), found.key.sampling.model_dump()
    compared |= {x: (here[x], there[x]) for x in here}
    for what, (wanted, got) in compared.items():
        if wanted != got:
            raise InputError(
                f"{path}: expected acceptance of {what} {wanted}, got {got}: learn it with "
                "`smartprof decode --save-acceptance` as it is to be used"
            )

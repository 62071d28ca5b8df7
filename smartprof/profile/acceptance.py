"""The acceptance file: how far a drafter's probabilities hold. Its format, reading and writing.

docs/acceptance.md says what the fields mean and how probabilities follow from them.

History of the format (`schema_version`; integers, never reused):

1   First version.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

from smartprof.atomic import write_atomically
from smartprof.errors import InputError
from smartprof.profile.canonical import parse_strictly, readable
from smartprof.profile.describe import first_error, shown
from smartprof.profile.part import Part, require_utc
from smartprof.profile.scalars import Count, Name, Percent, Remark, Tally
from smartprof.profile.schema import ModelKey

ACCEPTANCE_VERSION: Literal[1] = 1
NO_VERSION = "no version"

Weight = Annotated[float, Field(ge=-1e3, le=1e3)]
Statistic = Annotated[float, Field(gt=0, le=1e12)]  # priors are counted


class DrafterKey(Part):
    """The drafter. digest: of its shape and settings. choice: what it was asked for as."""

    name: Name
    digest: Name
    choice: Name


class SamplingKey(Part):
    """How the target's tokens were chosen; temperature 0 is greedy. The seed does not matter."""

    temperature: float
    top_k: int | None
    top_p: float
    min_p: float
    repetition_penalty: float


class AcceptanceKey(Part):
    """What acceptance depends on."""

    drafter: DrafterKey
    target: ModelKey
    sampling: SamplingKey


class AcceptanceProvenance(Part):
    """The command that wrote the file, and the workloads that it was learned from."""

    command: Remark
    workloads: list[Name]


class PlaceRow(Part):
    """Children of one depth and rank, from 1, below nodes on the target's path; those right."""

    depth: Count
    rank: Count
    proposed: Count
    right: Tally

    @model_validator(mode="after")
    def _possible(self) -> PlaceRow:
        if self.right > self.proposed:
            raise ValueError(f"expected at most {self.proposed} right, got {self.right}")
        return self


class SplitErrors(Part):
    """Expected calibration errors in percent on one split; null without events.

    fitted: whether the weights were learned from this split.
    labels: children judged. stated_pct, calibrated_pct: of their conditional probabilities.
    nodes: verified ones. cumulative_pct: of their path probabilities as decisions went by them.
    """

    split: Name
    fitted: bool
    labels: Tally
    stated_pct: Percent | None
    calibrated_pct: Percent | None
    nodes: Tally
    cumulative_pct: Percent | None


class SourceAcceptance(Part):
    """One source of the drafter: its calibration, and what that was learned from.

    nodes: those on the target's path that something was proposed below. labels: these proposals.
    """

    weights: list[Weight]
    precision: list[list[float]]
    nodes: Tally
    labels: Tally
    places: list[PlaceRow]
    errors: list[SplitErrors]

    @model_validator(mode="after")
    def _consistent(self) -> SourceAcceptance:
        _require_precision(self.precision, len(self.weights))
        proposed = sum(x.proposed for x in self.places)
        if proposed != self.labels:
            raise ValueError(f"expected places of {self.labels} labels, got {proposed}")
        return self


class AcceptanceFile(Part):
    """All that was learned of one drafter with one target under one kind of sampling.

    features: what each weight multiplies. statistics: what the drafter itself counted to correct
    its probabilities, two lists each; the weights correct what it states after that.
    """

    schema_version: Literal[1]
    created: Name
    provenance: AcceptanceProvenance
    key: AcceptanceKey
    features: list[Name]
    statistics: dict[Name, Annotated[list[list[Statistic]], Field(min_length=2, max_length=2)]]
    sources: dict[Name, SourceAcceptance]

    @field_validator("created")
    @classmethod
    def _utc(cls, created: str) -> str:
        return require_utc(created)

    @model_validator(mode="after")
    def _consistent(self) -> AcceptanceFile:
        for name, source in self.sources.items():
            if len(source.weights) != len(self.features):
                raise ValueError(
                    f"{name}: expected {len(self.features)} weights, got {len(source.weights)}"
                )
        for name, (first, second) in self.statistics.items():
            if len(first) != len(second):
                raise ValueError(f"expected two lists of one length as statistics of {name}")
        return self


def load_acceptance(path: Path) -> AcceptanceFile:
    """Read an acceptance file. Raises InputError in one line if anything is wrong."""
    try:
        value = parse_strictly(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}): make an acceptance file with "
            "`smartprof decode --save-acceptance`"
        ) from error
    except ValueError as error:  # not UTF-8, or not JSON
        raise InputError(f"{path}: expected an acceptance file, got: {error}") from error
    version = value.get("schema_version", NO_VERSION) if isinstance(value, dict) else NO_VERSION
    if type(version) is not int or version != ACCEPTANCE_VERSION:
        raise InputError(
            f"{path}: expected an acceptance file of schema_version {ACCEPTANCE_VERSION}, got "
            f"{shown(version)}: use the smartprof that wrote it, or learn it again"
        )
    try:
        return AcceptanceFile.model_validate(value)
    except ValidationError as error:
        raise InputError(f"{path}: not a valid acceptance file: {first_error(error)}") from error


def save_acceptance(content: AcceptanceFile, path: Path, force: bool = False) -> None:
    """Write whole or not at all. Raises SmartprofError if the file exists without `force`."""
    write_atomically(readable(content.model_dump(mode="json")) + "\n", path, force)


def _require_precision(precision: list[list[float]], size: int) -> None:
    """A symmetric positive definite matrix: anything else is no inverse covariance."""
    if [len(x) for x in precision] != [size] * size:
        raise ValueError(f"expected a precision of {size} rows of {size} numbers")
    matrix = np.array(precision)
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise ValueError("expected a positive definite precision") from None
    if not np.allclose(matrix, matrix.T, rtol=1e-6, atol=0):
        raise ValueError("expected a symmetric precision")

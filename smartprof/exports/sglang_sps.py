"""SGLang's cost table for DSPARK: seconds of a step as a sum over requests and over tokens.

SGLang 0.5.23, `sglang/srt/speculative/dspark_components/dspark_sps.py`::

    step(requests, budget) = bias + alpha(requests) + theta(requests + budget)

alpha and theta linear between probes and held beyond them; bias above 0; other keys are not looked
at. The sum is fitted to the profile's rounds by least squares of relative errors.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from smartprof.errors import InputError
from smartprof.exports.base import Export, Exporter, ExportRequest
from smartprof.profile.cost import CostModel


@dataclass(frozen=True, eq=False)
class AdditiveFit:
    """bias + alpha[batch] + theta[tokens], and its largest relative error at the probes."""

    bias: float
    alpha: NDArray[np.float64]
    theta: NDArray[np.float64]
    worst: float


class SglangSps(Exporter):
    """The file of `--speculative-dspark-sps-table-path`."""

    name: ClassVar[str] = "sglang-sps"
    engine: ClassVar[str] = "SGLang 0.5.23"
    summary: ClassVar[str] = "seconds by requests and tokens, for DSPARK; uses no acceptance"
    kinds: ClassVar[Mapping[str, str]] = {"eagle3": "DSPARK"}
    takes: ClassVar[frozenset[str]] = frozenset()

    def _export(self, request: ExportRequest) -> Export:
        profile = request.costs.profile
        batches = sorted({x.batch for x in profile.verify.curves if x.batch})
        tokens = sorted({y.size for x in profile.verify.curves for y in x.knots})
        fit = fit_sum(step_seconds(request.costs, batches, tokens, request.context))
        if fit.bias <= 0:
            raise InputError(
                f"{self.name}: expected a fixed part above 0, got {fit.bias:g} s: calibrate with "
                "more batches"
            )
        content: dict[str, Any] = {
            "bias_seconds": fit.bias,
            "bs_probes": batches,
            "alpha_seconds": fit.alpha.tolist(),
            "m_probes": tokens,
            "theta_seconds": fit.theta.tolist(),
            "_smartprof": request.provenance,
        }
        command = (
            f"python -m sglang.launch_server --model-path {shlex.quote(request.target)} "
            f"--speculative-algorithm DSPARK --speculative-draft-model-path "
            f"{shlex.quote(request.draft)} --speculative-dspark-sps-table-path "
            f"{shlex.quote(str(request.path))} --max-running-requests {request.max_batch}"
        )
        return Export(json.dumps(content, indent=1) + "\n", command, _remarks(request, fit, tokens))


def step_seconds(
    costs: CostModel, batches: Sequence[int], tokens: Sequence[int], context: float
) -> NDArray[np.float64]:
    """float64 [batches, tokens]: a verify pass with overhead and one draft pass; NaN below one
    token per request.
    """
    sizes = np.array(tokens)
    found = np.full((len(batches), len(tokens)), np.nan)
    for row, batch in zip(found, batches, strict=True):
        fits = sizes >= batch
        row[fits] = costs.verify(batch, sizes[fits], context)
        row[fits] += costs.round_overhead(batch, sizes[fits])
        row[fits] += costs.draft_catchup(batch, batch, context)
    return found


def fit_sum(seconds: NDArray[np.float64]) -> AdditiveFit:
    """Least squares of relative errors; alpha and theta are 0 at their first probes.

    seconds: float64 [batches, tokens], NaN where there is none.
    """
    batch, token = np.isfinite(seconds).nonzero()
    values = seconds[batch, token]
    batches, tokens = seconds.shape
    design = np.zeros((len(values), batches + tokens - 1))
    line = np.arange(len(values))
    design[:, 0] = 1.0
    design[line[batch > 0], batch[batch > 0]] = 1.0
    design[line[token > 0], batches - 1 + token[token > 0]] = 1.0
    weighted = design / values[:, None]
    found = np.linalg.lstsq(weighted, np.ones(len(values)), rcond=None)[0]
    worst = float(np.abs(weighted @ found - 1.0).max())
    alpha = np.concatenate([[0.0], found[1:batches]])
    theta = np.concatenate([[0.0], found[batches:]])
    return AdditiveFit(float(found[0]), alpha, theta, worst)


def _remarks(request: ExportRequest, fit: AdditiveFit, tokens: Sequence[int]) -> tuple[str, ...]:
    profile = request.costs.profile
    return (
        f"by a profile {profile.provenance.kind} {profile.created} ({profile.checksum})",
        f"a sum over requests and tokens is up to {100 * fit.worst:.1f} % off the profile's "
        "seconds at the probes",
        f"the context axis is dropped: seconds are those at context {request.context:g}; beyond "
        f"{tokens[-1]} tokens the engine holds the last value",
        "one draft pass of the profile's drafter stands for DSPARK's own; the acceptance is not "
        "used",
    )

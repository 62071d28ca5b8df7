"""llama.cpp: arguments of a server with one chain length.

Option names of late 2026 (`--spec-draft-n-max` took the place of `--draft-max`).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import ClassVar

from smartprof.exports.base import ONE_SETTING, Export, Exporter, ExportRequest
from smartprof.exports.schedule import one_setting, shared_remarks
from smartprof.planning.plan import Plan


class LlamaCpp(Exporter):
    """Arguments in one line."""

    name: ClassVar[str] = "llamacpp"
    engine: ClassVar[str] = "llama.cpp of late 2026"
    summary: ClassVar[str] = "one chain length per server, as arguments"
    kinds: ClassVar[Mapping[str, str]] = {
        "ngram": "ngram-simple",
        "lm": "draft-simple",
        "eagle3": "draft-eagle3",
    }
    takes: ClassVar[frozenset[str]] = ONE_SETTING

    def _export(self, request: ExportRequest) -> Export:
        plan = one_setting(request, range(1, request.max_batch + 1))
        kind, length = self.kinds[request.drafter_kind], plan.cells[0].chosen.setting.nodes
        if kind == "ngram-simple":
            arguments = f"--spec-type {kind} --spec-ngram-simple-size-m {length}"
        else:
            arguments = (
                f"--spec-type {kind} --spec-draft-model {shlex.quote(request.draft)} "
                f"--spec-draft-n-max {length} --spec-draft-n-min 0 --spec-draft-p-min 0"
            )
        command = (
            f"llama-server -m {shlex.quote(request.target)} -np "
            f"{request.batch or request.max_batch} $(cat {shlex.quote(str(request.path))})"
        )
        remarks = (_losses(plan), *shared_remarks(request, plan))
        return Export(f"{arguments}\n", command, remarks)


def _losses(plan: Plan) -> str:
    """What one length for all batches costs, against the best of each."""
    losses = {x.batch: 1 - x.chosen.speedup / x.fastest.speedup for x in plan.cells}
    batch = max(losses, key=lambda x: losses[x])
    return (
        "a server has one length for all batches: it loses against the best of each up to "
        f"{100 * losses[batch]:.1f} % (batch {batch})"
    )

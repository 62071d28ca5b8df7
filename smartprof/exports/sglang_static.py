"""SGLang: one EAGLE-2 tree for all batches, as a server's options.

SGLang 0.5.23: `--speculative-num-steps`, `--speculative-eagle-topk` and
`--speculative-num-draft-tokens`, which counts the root as well.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import ClassVar

from smartprof.exports.base import ONE_SETTING, Export, Exporter, ExportRequest, nothing_pays
from smartprof.exports.schedule import shared_remarks
from smartprof.planning.families.tree import Tree
from smartprof.planning.plan import make_plan


class SglangStatic(Exporter):
    """The tree of one batch, as YAML for `--config`."""

    name: ClassVar[str] = "sglang-static"
    engine: ClassVar[str] = "SGLang 0.5.23"
    summary: ClassVar[str] = "one tree per server, for --config"
    kinds: ClassVar[Mapping[str, str]] = {"eagle3": "EAGLE3", "lm": "STANDALONE"}
    takes: ClassVar[frozenset[str]] = ONE_SETTING

    def _export(self, request: ExportRequest) -> Export:
        batch = request.batch or request.max_batch
        plan = make_plan(
            request.costs,
            request.acceptance,
            Tree(),
            [batch],
            [request.context],
            bounds=request.bounds,
        )
        setting = plan.cells[0].chosen.setting
        if not setting.depth:
            raise nothing_pays(request, str(batch))
        lines = [
            f"# {request.comment}",
            f"speculative-algorithm: {self.kinds[request.drafter_kind]}",
            f"speculative-draft-model-path: {json.dumps(request.draft)}",
            f"speculative-num-steps: {setting.depth}",
            f"speculative-eagle-topk: {setting.top_k}",
            f"speculative-num-draft-tokens: {1 + setting.nodes}",
        ]
        command = (
            f"python -m sglang.launch_server --model-path {shlex.quote(request.target)} "
            f"--config {shlex.quote(str(request.path))} --max-running-requests {batch}"
        )
        remarks = (
            f"one tree for the whole server, the best at batch {batch}",
            *shared_remarks(request, plan),
        )
        return Export("\n".join(lines) + "\n", command, remarks)

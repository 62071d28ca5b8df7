"""SGLang: chain lengths by batch for `--speculative-adaptive`.

SGLang 0.5.23, `sglang/srt/speculative/adaptive_spec_params.py`: digit keys are the lower bounds of
tiers; a tier with one candidate never changes its steps; other keys are not looked at. A batch is
padded to the next size of a captured graph before the look-up.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, ClassVar

from smartprof.exports.base import Export, ExportRequest
from smartprof.exports.schedule import Schedule, ScheduleExporter


class SglangAdaptive(ScheduleExporter):
    """The file of `--speculative-adaptive-config`."""

    name: ClassVar[str] = "sglang"
    engine: ClassVar[str] = "SGLang 0.5.23"
    summary: ClassVar[str] = "chain lengths by batch, for --speculative-adaptive-config"
    kinds: ClassVar[Mapping[str, str]] = {"eagle3": "EAGLE3"}

    def default_graph_sizes(self, max_batch: int) -> list[int]:
        """Those of a server that speculates."""
        return [
            *range(1, 9),
            *range(10, 33, 2),
            *range(40, 65, 4),
            *range(72, 257, 8),
            *range(272, max_batch + 1, 16),
        ]

    def write(self, request: ExportRequest, schedule: Schedule) -> Export:
        """One candidate per tier, so that SGLang's own moving average has nothing to choose."""
        content: dict[str, Any] = {"_smartprof": request.provenance}
        for tier in schedule.tiers:
            content[str(tier.first)] = {"candidate_steps": [tier.length]}
        command = (
            f"python -m sglang.launch_server --model-path {shlex.quote(request.target)} "
            f"--speculative-algorithm {self.kinds[request.drafter_kind]} "
            f"--speculative-draft-model-path {shlex.quote(request.draft)} "
            f"--speculative-eagle-topk 1 --speculative-num-steps {schedule.longest} "
            f"--speculative-adaptive --speculative-adaptive-config "
            f"{shlex.quote(str(request.path))} --max-running-requests {schedule.max_batch} "
            f"--cuda-graph-max-bs-decode {schedule.max_batch}"
        )
        remarks = (
            "the file has lower bounds only: the last tier holds for larger batches too, which "
            "--max-running-requests keeps away; SGLang drops the schedule with attention data "
            "parallelism",
        )
        return Export(json.dumps(content, indent=1) + "\n", command, remarks)

"""vLLM: chain lengths by batch inside `--speculative-config`.

vLLM 0.33.0, `vllm/v1/spec_decode/dynamic/utils.py`: inclusive ranges [first, last, K] from batch 1,
not overlapping; gaps and what follows the last range keep the K before; K is cut to
`num_speculative_tokens`. Looked up by the number of scheduled requests, those in prefill included.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, ClassVar

from smartprof.exports.base import Export, ExportRequest
from smartprof.exports.schedule import Schedule, ScheduleExporter


class Vllm(ScheduleExporter):
    """The value of `--speculative-config`."""

    name: ClassVar[str] = "vllm"
    engine: ClassVar[str] = "vLLM 0.33"
    summary: ClassVar[str] = "chain lengths by batch, for --speculative-config"
    kinds: ClassVar[Mapping[str, str]] = {
        "ngram": "ngram",
        "lm": "draft_model",
        "eagle3": "eagle3",
    }

    def default_graph_sizes(self, max_batch: int) -> list[int]:
        """Request counts that decode graphs are captured for."""
        return [1, 2, 4, *range(8, 256, 8), *range(256, max_batch + 1, 16)]

    def write(self, request: ExportRequest, schedule: Schedule) -> Export:
        """JSON without further keys: vLLM refuses what it does not know."""
        method = self.kinds[request.drafter_kind]
        content: dict[str, Any] = {"method": method}
        if method != "ngram":
            content["model"] = request.draft
        content["num_speculative_tokens"] = schedule.longest
        content["num_speculative_tokens_per_batch_size"] = [
            [x.first, x.last, x.length] for x in schedule.tiers
        ]
        command = (
            f"vllm serve {shlex.quote(request.target)} --max-num-seqs {schedule.max_batch} "
            f'--speculative-config "$(cat {shlex.quote(str(request.path))})"'
        )
        remarks = (
            "the batch that vLLM looks up counts all scheduled requests, those in prefill too; "
            "with data parallelism it drops the schedule",
        )
        return Export(json.dumps(content) + "\n", command, remarks)

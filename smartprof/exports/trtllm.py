"""TensorRT-LLM: `draft_len_schedule` of the LLM API's options.

The meaning of its keys changed in March 2026 from the smallest to the largest batch of a tier. Both
ends of every tier are written, which reads the same under either. The smallest key must have the
length `max_draft_len`. Beyond the largest key the newer rule does not draft, the older one goes on.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from smartprof.exports.base import Export, ExportRequest, nothing_pays
from smartprof.exports.schedule import Schedule, ScheduleExporter, make_schedule


class TensorRtLlm(ScheduleExporter):
    """A YAML file of options."""

    name: ClassVar[str] = "trtllm"
    engine: ClassVar[str] = "TensorRT-LLM 1.3"
    summary: ClassVar[str] = "draft_len_schedule, for --extra_llm_api_options"
    kinds: ClassVar[Mapping[str, str]] = {"ngram": "NGram", "lm": "DraftTarget", "eagle3": "Eagle3"}

    def default_graph_sizes(self, max_batch: int) -> list[int]:
        """Those of graphs with padding."""
        return [1, 2, 4, *range(8, 129, 8), *(2**x for x in range(8, max_batch.bit_length() + 1))]

    def schedule(self, request: ExportRequest, sizes: Sequence[int]) -> Schedule:
        """No length above that of batch 1, which must be the longest."""
        found = make_schedule(request, sizes)
        while (first := found.tiers[0].length) < found.longest:
            if not first:
                raise nothing_pays(request, "1, whose length TensorRT-LLM takes for the longest")
            bounds = replace(request.bounds, depth=first)
            found = make_schedule(replace(request, bounds=bounds), sizes)
        return found

    def write(self, request: ExportRequest, schedule: Schedule) -> Export:
        """YAML, whose comments carry the profile's checksum."""
        kind = self.kinds[request.drafter_kind]
        lines = [
            f"# {request.comment}",
            f"max_batch_size: {schedule.max_batch}",
            "speculative_config:",
            f"  decoding_type: {kind}",
            f"  max_draft_len: {schedule.longest}",
        ]
        if kind != "NGram":
            lines.append(f"  speculative_model: {json.dumps(request.draft)}")
        lines.append("  draft_len_schedule:")
        for tier in schedule.tiers:
            for batch in dict.fromkeys((tier.first, tier.last)):
                lines.append(f"    {batch}: {tier.length}")
        command = (
            f"trtllm-serve {shlex.quote(request.target)} --extra_llm_api_options "
            f"{shlex.quote(str(request.path))}"
        )
        return Export("\n".join(lines) + "\n", command, _remarks(request, schedule))


def _remarks(request: ExportRequest, schedule: Schedule) -> tuple[str, ...]:
    remarks = [
        "both ends of each tier are keys, which reads the same whether keys are lower or upper "
        "bounds; the engine captures graphs for both; max_concurrency must not be set beside it",
        "no length is above that of batch 1, which TensorRT-LLM takes for the longest",
    ]
    if min(x.length for x in schedule.tiers) == 0:
        remarks.append(
            "where drafting pauses (length 0) the drafter's state can go stale, by an open report: "
            "--min-length 1 keeps it drafting"
        )
    return tuple(remarks)

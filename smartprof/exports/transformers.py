"""Hugging Face transformers: generation settings of one chain length, batch 1 only.

transformers 5.23, `GenerationConfig`: a constant number of assistant tokens without a confidence
threshold, or of tokens copied by prompt lookup.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from smartprof.exports.base import ONE_SETTING, Export, Exporter, ExportRequest
from smartprof.exports.schedule import one_setting, shared_remarks


class Transformers(Exporter):
    """Keyword arguments of a GenerationConfig as JSON."""

    name: ClassVar[str] = "transformers"
    engine: ClassVar[str] = "transformers 5"
    summary: ClassVar[str] = "one chain length, for a GenerationConfig"
    kinds: ClassVar[Mapping[str, str]] = {
        "ngram": "prompt_lookup_num_tokens",
        "lm": "num_assistant_tokens",
    }
    most_batch: ClassVar[int | None] = 1
    takes: ClassVar[frozenset[str]] = ONE_SETTING

    def _export(self, request: ExportRequest) -> Export:
        plan = one_setting(request, [1])
        option = self.kinds[request.drafter_kind]
        content: dict[str, Any] = {option: plan.cells[0].chosen.setting.nodes}
        assistant = ""
        if option == "num_assistant_tokens":
            content |= {
                "num_assistant_tokens_schedule": "constant",
                "assistant_confidence_threshold": 0,
            }
            assistant = ", assistant_model=draft"
        content["_smartprof"] = request.provenance
        command = (
            f"model.generation_config.update(**json.load(open({str(request.path)!r}))); "
            f"model.generate(**inputs{assistant})"
        )
        remarks = ("transformers speculates at batch 1 only", *shared_remarks(request, plan))
        return Export(json.dumps(content, indent=1) + "\n", command, remarks)

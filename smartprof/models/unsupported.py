"""What the decoder does not have, told by what a model's files say. Knows nothing about torch.

Multimodal targets, and EAGLE-1 and EAGLE-2 heads (Li et al., arXiv 2401.15077 and 2406.16858;
MSD's, arXiv 2505.14260, are built like them): one line instead of a tensor that nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from smartprof.errors import ModelError

# Fields of configs with an encoder beside the language model: transformers' own, and LLaVA's first.
ENCODERS = ("vision_config", "audio_config", "mm_vision_tower", "vision_tower", "visual")
FUSION = "fc.weight"  # joins hidden states and embeddings in every EAGLE head, and nowhere else


def require_text_model(config: Mapping[str, Any], name: str) -> None:
    """Raise ModelError for a config with an encoder of images or sounds."""
    found = next((x for x in ENCODERS if config.get(x) is not None), None)
    if found is not None:
        raise ModelError(
            f"{name}: multimodal models are not supported (its config.json has {found}): expected "
            "a language model alone"
        )


def require_no_head(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise ModelError for a directory with a draft head instead of a language model."""
    if holds_head(folder, config):
        raise ModelError(
            f"{folder}: expected a language model, got a draft head (it has {FUSION}): name it as "
            "--drafter eagle3:HEAD if it is an EAGLE-3 head; EAGLE-1 and EAGLE-2 heads are not "
            "supported"
        )


def holds_head(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether the weights are a draft head's.

    Of an old `.bin` file, which cannot be looked into without loading it, one layer is a head.
    """
    files = list(folder.glob("*.safetensors"))
    if files:
        return any(FUSION in _names(x) for x in files)
    return one_layer(config) and any(folder.glob("*.bin"))


def one_layer(config: Mapping[str, Any]) -> bool:
    """Whether a config is as small as those of draft heads."""
    return config.get("num_hidden_layers") == 1


def _names(path: Path) -> tuple[str, ...]:
    """Tensors of a file; none of a damaged one, which is refused where it is read."""
    try:
        with safe_open(path, framework="numpy") as source:
            return tuple(source.keys())
    except (SafetensorError, OSError):
        return ()

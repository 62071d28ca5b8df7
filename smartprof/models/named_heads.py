"""EAGLE-3 heads of one layer for the named shapes, under `EAGLE3-` and the target's name.

The layer of a head has the sizes of the target's own, as in the public checkpoints for
Llama-3.1-8B and DeepSeek-R1-Distill-Llama-8B (https://huggingface.co/yuhuili) and in the training
configs of https://github.com/sgl-project/SpecForge, configs/. What differs is how many tokens a
head can propose.
"""

from __future__ import annotations

from collections.abc import Mapping

from smartprof.errors import ModelError
from smartprof.models.eagle3_config import Eagle3Shape, eagle3_shape, head_config, random_shape
from smartprof.models.shapes import ModelShape, named_shape

PREFIX = "EAGLE3-"

DRAFT_VOCABS: Mapping[str, int] = {
    # smartprof/assets/heads/smollm2-135m-instruct/config.json
    "SmolLM2-135M": 8192,
    # Llama 2 has 32,000 tokens in all, which https://huggingface.co/yuhuili/EAGLE3-Vicuna1.3-13B
    # keeps.
    "Llama-2-7B": 32_000,
    "Vicuna-7B-v1.5": 32_000,
    "Vicuna-13B-v1.5": 32_000,
    # https://huggingface.co/yuhuili/EAGLE3-LLaMA3.1-Instruct-8B, config.json
    "Llama-3.1-8B": 32_000,
    # https://huggingface.co/yuhuili/EAGLE3-DeepSeek-R1-Distill-LLaMA-8B, config.json
    "DeepSeek-R1-Distill-Llama-8B": 32_000,
    # SpecForge, configs/llama3-70B-ealge3.json
    "Llama-3.3-70B": 32_000,
    # SpecForge, configs/qwen2-5-vl-7B-eagle3.json: a language model of the same sizes
    "Qwen2-7B": 32_000,
    "Qwen2-VL-7B": 32_000,
    # SpecForge, configs/llava_eagle3.json; the 13B model speaks in the same tokens
    "LLaVA-1.5-7B": 6024,
    "LLaVA-1.5-13B": 6024,
}


def _head(target: str) -> Eagle3Shape:
    shape = named_shape(target)
    return eagle3_shape(head_config(shape, DRAFT_VOCABS[target]), f"{PREFIX}{target}", shape)


NAMED_HEADS: Mapping[str, Eagle3Shape] = {f"{PREFIX}{x}": _head(x) for x in DRAFT_VOCABS}


def named_head(name: str) -> Eagle3Shape:
    """The head of that name; ModelError listing the names if there is none."""
    if name not in NAMED_HEADS:
        raise ModelError(f"unknown head {name!r}: expected one of {', '.join(NAMED_HEADS)}")
    return NAMED_HEADS[name]


def head_for(target: ModelShape) -> Eagle3Shape:
    """A head for this target, only for timing: the named one, else one as it would be made."""
    for name in DRAFT_VOCABS:
        if named_shape(name).digest == target.digest:
            return NAMED_HEADS[f"{PREFIX}{name}"]
    return random_shape(target)

"""The model families that are tested against transformers: the README's table is made from this."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LOUD = 4.0  # with weights as small as they are drawn, attention is nearly even
SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
}


@dataclass(frozen=True)
class Family:
    """One tiny configuration. kind: as transformers names it. models: who is built like this."""

    label: str
    kind: str
    models: str
    changes: dict[str, Any] = field(default_factory=dict)
    shard_bytes: int | None = None


FAMILIES = (
    Family("Llama", "llama", "Llama 2"),
    Family(
        "Llama, tied embeddings, 9 query and 3 key-value heads",
        "llama",
        "SmolLM2",
        {
            "tie_word_embeddings": True,
            "hidden_size": 54,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "head_dim": 16,
        },
    ),
    Family(
        "Llama, scaled rotary positions",
        "llama",
        "Llama 3.1, 3.2 and 3.3, DeepSeek-R1-Distill-Llama",
        {"rope_parameters": LLAMA3_ROPE},
        shard_bytes=40_000,
    ),
    Family("Llama, attention biases", "llama", "fine-tunes", {"attention_bias": True}),
    Family(
        "Qwen2, biases on queries, keys and values", "qwen2", "DeepSeek-R1-Distill-Qwen, Qwen2.5"
    ),
    Family(
        "Qwen2, tied embeddings, one key-value head per query head",
        "qwen2",
        "small Qwen2 and Qwen2.5",
        {"tie_word_embeddings": True, "num_key_value_heads": 6},
    ),
    Family(
        "Qwen2, sliding window in every layer",
        "qwen2",
        "long-context fine-tunes",
        {"use_sliding_window": True, "max_window_layers": 0, "sliding_window": 11},
    ),
    Family(
        "Qwen3, normed queries and keys, free head size",
        "qwen3",
        "Qwen3 (dense)",
        {"head_dim": 20, "num_attention_heads": 5, "num_key_value_heads": 5},
    ),
    Family(
        "Qwen3, attention biases, tied embeddings",
        "qwen3",
        "small Qwen3",
        {"head_dim": 8, "attention_bias": True, "tie_word_embeddings": True},
    ),
    Family("Mistral", "mistral", "Mistral 7B v0.2 and later", {"sliding_window": None}),
    Family("Mistral, sliding window", "mistral", "Mistral 7B v0.1", {"sliding_window": 13}),
)


def write_family(family: Family, folder: Path) -> Any:
    """A random model of a few thousand weights, saved as its users save theirs; returns it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family.kind, **(SIZES | family.changes))
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # biases start at zero, norms at one: give them something to get wrong
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or name.endswith("norm.weight"):
                parameter.add_(torch.randn_like(parameter) * 0.3)
            else:
                parameter.mul_(LOUD)
    sharded = {} if family.shard_bytes is None else {"max_shard_size": family.shard_bytes}
    model.save_pretrained(folder, **sharded)
    if sharded:
        assert len(list(folder.glob("*.safetensors"))) > 1
    return model


def families_table() -> str:
    """The README's table."""
    lines = ["| built like | for instance |", "|---|---|"]
    return "\n".join([*lines, *(f"| {x.label} | {x.models} |" for x in FAMILIES)])

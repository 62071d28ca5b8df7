"""EAGLE-3 heads of a few thousand weights in the layout of public checkpoints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from smartprof.models.shapes import ModelShape, named_shape

# Seven layers are the fewest whose default features are three different ones.
TARGET = replace(named_shape("tiny-llama"), name="tiny-seven", layers=7)
DRAFT_VOCAB = 100
SIZES: dict[str, Any] = {
    "architectures": ["LlamaForCausalLMEagle3"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "vocab_size": TARGET.vocab,
    "draft_vocab_size": DRAFT_VOCAB,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 7000.0,
}


def head_tensors(target: ModelShape = TARGET, seed: int = 0) -> dict[str, Tensor]:
    """Every tensor of a head; draft token i is the target's 2 * i + 3."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator) / size[-1] ** 0.5

    hidden, inner = SIZES["hidden_size"], SIZES["intermediate_size"]
    query, key = (
        SIZES[x] * SIZES["head_dim"] for x in ("num_attention_heads", "num_key_value_heads")
    )
    ids = 2 * torch.arange(DRAFT_VOCAB) + 3
    known = torch.zeros(target.vocab, dtype=torch.bool)
    known[ids] = True
    norms = ("hidden_norm", "input_layernorm", "post_attention_layernorm")
    return {
        "fc.weight": normal(hidden, 3 * target.hidden),
        **{f"midlayer.{x}.weight": 1 + 0.3 * normal(hidden, 1)[:, 0] for x in norms},
        "midlayer.self_attn.q_proj.weight": 3 * normal(query, 2 * hidden),
        "midlayer.self_attn.k_proj.weight": 3 * normal(key, 2 * hidden),
        "midlayer.self_attn.v_proj.weight": normal(key, 2 * hidden),
        "midlayer.self_attn.o_proj.weight": 4 * normal(hidden, query),
        "midlayer.mlp.gate_proj.weight": normal(inner, hidden),
        "midlayer.mlp.up_proj.weight": normal(inner, hidden),
        "midlayer.mlp.down_proj.weight": normal(hidden, inner),
        "norm.weight": 1 + 0.3 * normal(hidden, 1)[:, 0],
        "lm_head.weight": 2 * normal(DRAFT_VOCAB, hidden),
        "d2t": ids - torch.arange(DRAFT_VOCAB),
        "t2d": known,
    }


def write_head(
    folder: Path,
    changes: dict[str, Any] | None = None,
    tensors: dict[str, Tensor] | None = None,
    as_bin: bool = False,
) -> Path:
    """A checkpoint directory; returns it. changes: of the config."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SIZES | (changes or {})))
    found = head_tensors() if tensors is None else tensors
    if as_bin:
        torch.save(found, folder / "pytorch_model.bin")
    else:
        save_file({x: y.contiguous() for x, y in found.items()}, folder / "model.safetensors")
    return folder

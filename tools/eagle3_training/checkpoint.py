"""A head's beginning, taken from its target, and its end, a directory in the public layout."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from eagle3_training.network import TrainableHead
from smartprof.models.eagle3 import load_eagle3
from smartprof.models.eagle3_config import Eagle3Shape, default_taps, eagle3_shape
from smartprof.models.shapes import ModelShape
from smartprof.models.weights import SINGLE_FILE, ResolvedModel, Weights

SMALL = 0.01  # standard deviation of what the target has no weights for
HALF = ("q_proj", "k_proj", "v_proj")


def head_config(target: ModelShape, draft_vocab: int) -> dict[str, object]:
    """`config.json` of a head whose layer has the sizes of the target's."""
    return {
        "architectures": ["LlamaForCausalLMEagle3"],
        "model_type": "llama",
        "num_hidden_layers": 1,
        "hidden_size": target.hidden,
        "target_hidden_size": target.hidden,
        "intermediate_size": target.intermediate,
        "num_attention_heads": target.heads,
        "num_key_value_heads": target.kv_heads,
        "head_dim": target.head_dim,
        "vocab_size": target.vocab,
        "draft_vocab_size": draft_vocab,
        "max_position_embeddings": target.max_context,
        "rms_norm_eps": target.norm_eps,
        "rope_theta": target.rope_theta,
        "eagle_config": {"eagle_aux_hidden_state_layer_ids": list(default_taps(target))},
        "torch_dtype": "float16",
    }


def new_head(source: ResolvedModel, draft: Tensor, positions: int, seed: int) -> TrainableHead:
    """A head that begins as the target's last layer, reading its highest feature.

    draft: int64 [draft_vocab], the target's ids of the draft tokens.
    """
    weights = source.load(torch.float32, "cpu")
    torch.manual_seed(seed)
    embedding = weights["model.embed_tokens.weight"]
    head = TrainableHead(_shape(source.shape, len(draft)), embedding, positions)
    with torch.no_grad():
        for name, value in _first_values(weights, source.shape, draft).items():
            head.get_parameter(name).copy_(value)
    return head


def _first_values(weights: Weights, target: ModelShape, draft: Tensor) -> Weights:
    last = f"model.layers.{target.layers - 1}."
    hidden = target.hidden
    scores = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    values = {"norm.weight": weights["model.norm.weight"], "lm_head.weight": scores[draft]}
    values["midlayer.hidden_norm.weight"] = weights[last + "input_layernorm.weight"]
    for name in ("post_attention_layernorm", "self_attn.o_proj"):
        values[f"midlayer.{name}.weight"] = weights[f"{last}{name}.weight"]
    for name in ("gate_proj", "up_proj", "down_proj"):
        values[f"midlayer.mlp.{name}.weight"] = weights[f"{last}mlp.{name}.weight"]
    for name in HALF:
        known = weights[f"{last}self_attn.{name}.weight"]
        values[f"midlayer.self_attn.{name}.weight"] = torch.cat(
            [SMALL * torch.randn(len(known), hidden), known], 1
        )
    low = SMALL * torch.randn(hidden, 2 * hidden)
    values["fc.weight"] = torch.cat([low, torch.eye(hidden)], 1)
    return values


def loaded_head(
    source: ResolvedModel, folder: Path, positions: int
) -> tuple[TrainableHead, Tensor]:
    """A head to go on from, and the target's ids of its draft tokens."""
    weights = source.load(torch.float32, "cpu")
    embedding = weights["model.embed_tokens.weight"]
    config = json.loads((folder / "config.json").read_text("utf-8"))
    shape = eagle3_shape(config, folder.name, source.shape)
    checked = load_eagle3(folder, shape, embedding, source.shape.vocab)
    head = TrainableHead(shape, embedding, positions)
    saved = load_file(folder / SINGLE_FILE)
    head.load_state_dict({x: saved[x].float() for x in head.state_dict()})
    return head, checked.target_ids


def save_head(head: TrainableHead, draft: Tensor, target: ModelShape, folder: Path) -> None:
    """Write `config.json` and float16 safetensors that any reader of the layout can load."""
    folder.mkdir(parents=True, exist_ok=True)
    config = head_config(target, len(draft))
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")
    tensors = {x: y.detach().half().cpu().contiguous() for x, y in head.state_dict().items()}
    tensors["d2t"] = draft - torch.arange(len(draft))
    tensors["t2d"] = torch.zeros(target.vocab, dtype=torch.bool)
    tensors["t2d"][draft] = True
    save_file(tensors, folder / SINGLE_FILE, {"format": "pt"})


def _shape(target: ModelShape, draft_vocab: int) -> Eagle3Shape:
    return eagle3_shape(head_config(target, draft_vocab), f"eagle3-{target.name}", target)

"""A head's beginning, taken from its target, and its end, a directory in the public layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from eagle3_training.network import TrainableHead
from smartprof.atomic import write_atomically
from smartprof.drafters.table import CONFIG_FILE
from smartprof.errors import InputError
from smartprof.models.eagle3 import load_eagle3
from smartprof.models.eagle3_config import (
    LAYER_IDS,
    Eagle3Shape,
    default_taps,
    eagle3_shape,
    head_config,
)
from smartprof.models.json_files import read_json
from smartprof.models.shapes import ModelShape
from smartprof.models.weights import SINGLE_FILE, ResolvedModel, Weights
from smartprof.report.json_files import write_json

QUIET = 0.3  # of the target's attention, which would look at the first token above all
LEAST_SPREAD = 1e-6
LOW_SHARE = 0.3  # of the two lower features at first, beside the highest


def new_head(
    source: ResolvedModel, draft: Tensor, spread: Tensor, positions: int, seed: int
) -> TrainableHead:
    """A head that begins as the target's last layer, reading its highest feature.

    draft: int64 [draft_vocab], the target's ids of the draft tokens. spread: float32 [3 * hidden],
    root mean square of the features.
    """
    weights = source.load(torch.float32, "cpu")
    torch.manual_seed(seed)
    embedding = weights["model.embed_tokens.weight"]
    spread = spread.clamp(min=LEAST_SPREAD)
    head = TrainableHead(_shape(source.shape, len(draft)), embedding, spread, positions)
    with torch.no_grad():
        for name, value in _first_values(weights, source.shape, draft, spread).items():
            head.get_parameter(name).copy_(value)
    return head


def _first_values(weights: Weights, target: ModelShape, draft: Tensor, spread: Tensor) -> Weights:
    """What there is of the target, in coordinates in which its features have unit size.

    A residual stream is large, a few of its coordinates enormous: what a head adds to one as it is
    takes long to count for anything. So features are divided by `spread`, and the layer is written
    for the result. Norms keep their first weights, 1.
    """
    last, hidden = f"model.layers.{target.layers - 1}.", target.hidden
    high = spread[-hidden:]
    relative = high / high.square().mean().sqrt()

    def layer(name: str) -> Tensor:
        return weights[f"{last}{name}.weight"]

    scores = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    values = {"lm_head.weight": scores[draft]}
    low = torch.randn(hidden, 2 * hidden) / (2 * hidden) ** 0.5
    values["fc.weight"] = torch.cat([LOW_SHARE * low, torch.eye(hidden)], 1)
    # Equal for a key and its queries: a token attends to itself before anything is learned.
    token = torch.randn(target.kv_heads, 1, target.head_dim, hidden) / hidden**0.5
    group = target.heads // target.kv_heads
    shares = {"q_proj": group, "k_proj": 1, "v_proj": 1}
    for name, heads in shares.items():
        known = layer(f"self_attn.{name}") * layer("input_layernorm") * relative
        if name == "v_proj":
            token = torch.randn_like(token) / hidden**0.5
        else:
            known = QUIET * known
        own = token.expand(-1, heads, -1, -1).reshape(-1, hidden)
        values[f"midlayer.self_attn.{name}.weight"] = torch.cat([own, known], 1)
    for name in ("gate_proj", "up_proj"):
        known = layer(f"mlp.{name}") * layer("post_attention_layernorm") * relative
        values[f"midlayer.mlp.{name}.weight"] = known
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        values[f"midlayer.{name}.weight"] = layer(name) / high[:, None]
    return values


def loaded_head(
    source: ResolvedModel, folder: Path, spread: Tensor, positions: int
) -> tuple[TrainableHead, Tensor]:
    """A head to go on from, and the target's ids of its draft tokens; arguments as `new_head`'s.

    Raises:
        InputError: it has other sizes, taps or parts than `save_head` writes.
        ModelError: a file is missing or damaged.
    """
    config = read_json(folder / CONFIG_FILE)
    shape = eagle3_shape(config, folder.name, source.shape)
    expected = _shape(source.shape, shape.draft_vocab)
    if shape.digest != expected.digest or not (folder / SINGLE_FILE).exists():
        raise InputError(
            f"{folder}: expected a head as this tool makes them for {source.name}, got another "
            "layout or other sizes: leave out --from to begin a new one"
        )
    embedding = source.load(torch.float32, "cpu")["model.embed_tokens.weight"]
    checked = load_eagle3(folder, shape, embedding, source.shape.vocab)
    spread = spread.clamp(min=LEAST_SPREAD)
    head = TrainableHead(shape, embedding, spread, positions)
    saved = {x: y.float() for x, y in load_file(folder / SINGLE_FILE).items()}
    saved["fc.weight"] *= spread
    head.load_state_dict({x: saved[x] for x in head.state_dict()})
    return head, checked.target_ids


def save_head(head: TrainableHead, draft: Tensor, target: ModelShape, folder: Path) -> None:
    """Write `config.json` and float16 safetensors that any reader of the layout can load."""
    write_json(_config(target, len(draft)), folder / CONFIG_FILE)
    values = {x: y.detach().cpu() for x, y in head.state_dict().items()}
    values["fc.weight"] = values["fc.weight"] / head.spread.cpu()
    tensors = {x: y.half().contiguous() for x, y in values.items()}
    tensors["d2t"] = draft - torch.arange(len(draft))
    tensors["t2d"] = torch.zeros(target.vocab, dtype=torch.bool)
    tensors["t2d"][draft] = True
    write_atomically(save(tensors, {"format": "pt"}), folder / SINGLE_FILE, force=True)


def _config(target: ModelShape, draft_vocab: int) -> dict[str, Any]:
    """What decoders read; which layers are tapped is said as well."""
    return head_config(target, draft_vocab) | {
        "architectures": ["LlamaForCausalLMEagle3"],
        "eagle_config": {LAYER_IDS: list(default_taps(target))},
        "torch_dtype": "float16",
    }


def _shape(target: ModelShape, draft_vocab: int) -> Eagle3Shape:
    return eagle3_shape(_config(target, draft_vocab), f"eagle3-{target.name}", target)

"""What an EAGLE-3 head is made of, read from its `config.json`. Knows nothing about torch.

Li, Wei, Zhang and Zhang, "EAGLE-3: Scaling up Inference Acceleration of Large Language Models via
Training-Time Test", arXiv 2503.01840. Two spellings of the config are in use: the layer's sizes at
the top, or in `transformer_layer_config`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smartprof.errors import ModelError
from smartprof.models.shape_config import positive_integer
from smartprof.models.shapes import LLAMA, ModelShape, shape_from_config
from smartprof.models.unsupported import require_text_model

FEATURES = 3  # target layers whose inputs are fused
DRAFT_VOCAB = 32_000  # of public heads; what a random head gets where the target has more
LAYER_IDS = "eagle_aux_hidden_state_layer_ids"
UNSUPPORTED = ("norm_before_fc", "fc_norm", "norm_output", "parallel_drafting")


@dataclass(frozen=True)
class Eagle3Shape:
    """Sizes of a head.

    layer: its one transformer layer; `vocab` is the target's. draft_vocab: tokens it can propose.
    taps: target layers whose inputs it reads. norm_before_residual: the residual stream begins with
    the normed hidden state, not with the hidden state itself.
    """

    layer: ModelShape
    target_hidden: int
    draft_vocab: int
    taps: tuple[int, ...]
    norm_before_residual: bool = False

    @property
    def name(self) -> str:
        """As the layer's."""
        return self.layer.name

    @property
    def digest(self) -> str:
        """First 16 hex digits of a sha256 over everything but the name."""
        parts = (
            self.layer.digest,
            self.target_hidden,
            self.draft_vocab,
            self.taps,
            self.norm_before_residual,
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def default_taps(target: ModelShape) -> tuple[int, ...]:
    """The layers that EAGLE-3 reads unless its config names others: a low, a middle, a high one."""
    return (2, target.layers // 2, target.layers - 3)


def is_eagle3(config: Mapping[str, Any]) -> bool:
    """Whether a `config.json` describes an EAGLE-3 head rather than a language model."""
    listed = str(config.get("architectures"))
    return "draft_vocab_size" in config or "eagle3" in listed.lower()


def eagle3_shape(config: Mapping[str, Any], name: str, target: ModelShape) -> Eagle3Shape:
    """Read a head's `config.json`.

    Raises:
        ModelError: it is no head for this target, or uses what the forward pass does not have.
    """
    require_text_model(config, name)
    for field in UNSUPPORTED:
        if config.get(field):
            raise ModelError(f"{name}: {field} is not supported: expected a plain EAGLE-3 head")
    sizes = _table(config, "transformer_layer_config", name) or config
    layer = shape_from_config({**sizes, "architectures": [LLAMA]}, name)
    if layer.layers != 1:
        raise ModelError(f"{name}: expected an EAGLE-3 head of one layer, got {layer.layers}")
    if layer.vocab != target.vocab:
        raise ModelError(
            f"{name}: expected a head for the {target.vocab} tokens of {target.name}, got one for "
            f"{layer.vocab}: choose a head that was trained for this target"
        )
    return Eagle3Shape(
        layer=layer,
        target_hidden=positive_integer(config, "target_hidden_size", name, target.hidden),
        draft_vocab=positive_integer(config, "draft_vocab_size", name, layer.vocab),
        taps=_taps(config, name, target),
        norm_before_residual=bool(config.get("norm_before_residual")),
    )


def head_config(target: ModelShape, draft_vocab: int) -> dict[str, Any]:
    """`config.json` of a head whose layer has the sizes of the target's."""
    return {
        "architectures": [LLAMA],
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
    }


def random_shape(target: ModelShape) -> Eagle3Shape:
    """A head as one would be made for this target; only for timing."""
    sizes = head_config(target, min(DRAFT_VOCAB, target.vocab))
    return eagle3_shape(sizes, f"eagle3-{target.name}", target)


def _table(config: Mapping[str, Any], field: str, name: str) -> Mapping[str, Any]:
    """A part of the config; empty where there is none."""
    found = config.get(field)
    if found is not None and not isinstance(found, Mapping):
        raise ModelError(f"{name}: {field} must be a table, got {found!r}")
    return found or {}


def _taps(config: Mapping[str, Any], name: str, target: ModelShape) -> tuple[int, ...]:
    nested = _table(config, "eagle_config", name)
    named = config.get(LAYER_IDS) or nested.get(LAYER_IDS)
    listed = named if isinstance(named, list) else default_taps(target)
    valid = all(isinstance(x, int) and 0 <= x < target.layers for x in listed)
    if not valid or len(set(listed)) != FEATURES:
        raise ModelError(
            f"{name}: expected {FEATURES} different layers of 0 to {target.layers - 1} to read "
            f"from {target.name}, got {list(listed)}: name them as {LAYER_IDS} in config.json"
        )
    return tuple(listed)

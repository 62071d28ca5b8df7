"""From a Hugging Face `config.json` to a shape. Knows nothing about weights, devices or torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from smartprof.errors import ModelError
from smartprof.models.model_shape import ModelShape, RopeScaling

LLAMA, QWEN2, QWEN3, MISTRAL = (
    "LlamaForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "MistralForCausalLM",
)
ARCHITECTURES = (LLAMA, QWEN2, QWEN3, MISTRAL)
DEFAULT_ROPE_THETA = 10_000.0
QWEN3_HEAD_DIM = 128  # these three: what a config means that leaves the field out
QWEN_WINDOW_LAYERS = 28
DEFAULT_WINDOW = 4096


def shape_from_config(config: Mapping[str, Any], name: str) -> ModelShape:
    """Read a Hugging Face `config.json`.

    Raises:
        ModelError: the architecture is not one of `ARCHITECTURES`, the model uses a feature that
            the forward pass does not have, or a number is missing or not a number.
    """
    architecture = _architecture(config, name)
    _refuse_unsupported(config, name)
    rope = _rope_parameters(config, name)
    heads = positive_integer(config, "num_attention_heads", name)
    hidden = positive_integer(config, "hidden_size", name)
    layers = positive_integer(config, "num_hidden_layers", name)
    max_context = positive_integer(config, "max_position_embeddings", name)
    # Qwen2 has biases without saying so, and none after attention; Mistral has no such option.
    attention_bias = architecture in (LLAMA, QWEN3) and bool(config.get("attention_bias"))
    return ModelShape(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=positive_integer(config, "num_key_value_heads", name, default=heads),
        head_dim=positive_integer(
            config, "head_dim", name, default=_head_dim(architecture, hidden, heads)
        ),
        intermediate=positive_integer(config, "intermediate_size", name),
        vocab=positive_integer(config, "vocab_size", name),
        tied_embeddings=config.get("tie_word_embeddings") is True,
        qkv_bias=architecture == QWEN2 or attention_bias,
        rope_theta=_number(rope, "rope_theta", name, default=DEFAULT_ROPE_THETA),
        rope_scaling=_rope_scaling(rope, name),
        norm_eps=_number(config, "rms_norm_eps", name),
        max_context=max_context,
        qk_norm=architecture == QWEN3,
        out_bias=attention_bias,
        window=_window(config, architecture, layers, max_context, name),
    )


def _head_dim(architecture: str, hidden: int, heads: int) -> int:
    """Where the config does not say; Qwen3's default does not follow from the other sizes."""
    return QWEN3_HEAD_DIM if architecture == QWEN3 else hidden // heads


def _window(
    config: Mapping[str, Any], architecture: str, layers: int, max_context: int, name: str
) -> int | None:
    """Tokens that every layer looks back over, itself included; None where all look at all.

    Mistral's `sliding_window` is in force. Qwen's is only with `use_sliding_window`, from layer
    `max_window_layers` on; Llama's says nothing.
    """
    windowed = [False] * layers
    if architecture == MISTRAL:
        windowed = [config.get("sliding_window", DEFAULT_WINDOW) is not None] * layers
    elif architecture in (QWEN2, QWEN3) and config.get("use_sliding_window"):
        first = _first_windowed(config, name)
        windowed = [index >= first for index in range(layers)]
    types = config.get("layer_types")
    if types is not None and architecture != LLAMA:
        if not isinstance(types, list):
            raise ModelError(f"{name}: layer_types must be a list of names, got {types!r}")
        windowed = [x == "sliding_attention" for x in types]
    if not any(windowed):
        return None
    window = positive_integer(config, "sliding_window", name, default=DEFAULT_WINDOW)
    if window >= max_context:
        return None
    if not all(windowed):
        raise ModelError(
            f"{name}: a sliding window in some layers and not in others is not supported"
        )
    return window


def _first_windowed(config: Mapping[str, Any], name: str) -> int:
    """Layers before the first with a window; none is a number, too."""
    if config.get("max_window_layers") == 0:
        return 0
    return positive_integer(config, "max_window_layers", name, default=QWEN_WINDOW_LAYERS)


def _architecture(config: Mapping[str, Any], name: str) -> str:
    listed = config.get("architectures")
    architecture = listed[0] if isinstance(listed, list) and len(listed) == 1 else None
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"{name}: architecture {listed} is not supported, expected one of "
            f"{', '.join(ARCHITECTURES)}"
        )
    return str(architecture)


def _refuse_unsupported(config: Mapping[str, Any], name: str) -> None:
    """The forward pass has no biases in its MLP, no other activation, no quantised weights."""
    if config.get("mlp_bias"):
        raise ModelError(f"{name}: mlp_bias is not supported")
    if config.get("hidden_act", "silu") != "silu":
        raise ModelError(f"{name}: expected hidden_act silu, got {config['hidden_act']!r}")
    if config.get("quantization_config"):
        raise ModelError(
            f"{name}: quantised safetensors are not supported: use full-precision weights or a GGUF"
        )


def _rope_parameters(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One table from both spellings: `rope_parameters`, or `rope_theta` beside `rope_scaling`."""
    merged: dict[str, Any] = {}
    if "rope_theta" in config:
        merged["rope_theta"] = config["rope_theta"]
    for field in ("rope_scaling", "rope_parameters"):
        part = config.get(field)
        if part is None:
            continue
        if not isinstance(part, Mapping):
            raise ModelError(f"{name}: {field} must be a table, got {part!r}")
        merged.update(part)
    if merged.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0:
        raise ModelError(f"{name}: partial rotary positions are not supported")
    return merged


def _rope_scaling(rope: Mapping[str, Any], name: str) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise ModelError(f"{name}: rope type {kind!r} is not supported, expected default or llama3")
    return RopeScaling(
        factor=_number(rope, "factor", name),
        low_freq_factor=_number(rope, "low_freq_factor", name),
        high_freq_factor=_number(rope, "high_freq_factor", name),
        original_context=positive_integer(rope, "original_max_position_embeddings", name),
    )


def positive_integer(
    table: Mapping[str, Any], field: str, name: str, default: int | None = None
) -> int:
    """A field of a config, or the default where it is absent or null; ModelError for another."""
    value = table.get(field)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"{name}: {field} must be a positive integer, got {value!r}")
    return value


def _number(table: Mapping[str, Any], field: str, name: str, default: float | None = None) -> float:
    value = table.get(field)
    value = default if value is None else value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or not is_number or not math.isfinite(value) or value <= 0:
        raise ModelError(f"{name}: {field} must be a positive number, got {value!r}")
    return float(value)

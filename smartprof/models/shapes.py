"""What a dense Llama-family model is made of, and what that costs in bytes and operations.

Knows nothing about weights, devices or torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from smartprof.errors import ModelError

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


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3.1's frequency scaling of rotary embeddings (`rope_type` "llama3").

    Wavelengths shorter than `original_context / high_freq_factor` stay as they are, those longer
    than `original_context / low_freq_factor` are stretched by `factor`, those between are blended.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder-only transformer with RMS norms, SwiGLU and rotary positions.

    qkv_bias, out_bias: biases of the attention's input and output products. qk_norm: queries and
    keys are normed per head. window: tokens that a position attends to, itself included; None: all.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied_embeddings: bool
    qkv_bias: bool
    rope_theta: float
    rope_scaling: RopeScaling | None
    norm_eps: float
    max_context: int
    qk_norm: bool = False
    out_bias: bool = False
    window: int | None = None

    def __post_init__(self) -> None:
        for field, value in asdict(self).items():
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                raise ModelError(f"model shape {self.name}: {field} must be positive, got {value}")
        if self.heads % self.kv_heads:
            raise ModelError(
                f"model shape {self.name}: heads ({self.heads}) must be a multiple of "
                f"kv_heads ({self.kv_heads})"
            )
        if self.head_dim % 2:
            raise ModelError(
                f"model shape {self.name}: head_dim must be even for rotary positions, "
                f"got {self.head_dim}"
            )

    @property
    def layer_matrix_elements(self) -> int:
        """Elements of the weight matrices of one layer (no norms, no biases)."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return attention + 3 * self.hidden * self.intermediate

    @property
    def parameters(self) -> int:
        """Number of stored weights; tied embeddings count once."""
        norms = 2 * self.hidden + (2 * self.head_dim if self.qk_norm else 0)
        biases = self.head_dim * (self.heads + 2 * self.kv_heads) if self.qkv_bias else 0
        biases += self.hidden if self.out_bias else 0
        tables = 1 if self.tied_embeddings else 2
        per_layer = self.layer_matrix_elements + norms + biases
        return self.layers * per_layer + tables * self.vocab * self.hidden + self.hidden

    @property
    def digest(self) -> str:
        """First 16 hex digits of the sha256 over everything but the name.

        Fields with a default joined after profiles had been written; they count when set, so that
        the digests in those profiles hold.
        """
        values = asdict(self)
        fields = {
            x.name: values[x.name]
            for x in dataclasses.fields(self)
            if x.name != "name" and values[x.name] != x.default
        }
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def kv_bytes_per_token(self, bytes_per_element: int) -> int:
        """Bytes that one token adds to the key-value cache, over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * bytes_per_element

    def weight_bytes(self, bytes_per_element: int) -> int:
        """Bytes of memory that the weights take."""
        return self.parameters * bytes_per_element

    def flops_per_token(self, context: float) -> float:
        """Floating-point operations of one token's forward pass.

        A multiply-add counts as two; norms, biases, softmax and rotation are left out.

        Args:
            context: tokens that the token attends to, itself included.
        """
        matrices = self.layers * self.layer_matrix_elements + self.vocab * self.hidden
        attention = 2 * self.layers * self.heads * self.head_dim * context
        return 2.0 * (matrices + attention)


NAMED_SHAPES: Mapping[str, ModelShape] = {
    shape.name: shape
    for shape in (
        ModelShape(
            name="SmolLM2-135M",
            layers=30,
            hidden=576,
            heads=9,
            kv_heads=3,
            head_dim=64,
            intermediate=1536,
            vocab=49_152,
            tied_embeddings=True,
            qkv_bias=False,
            rope_theta=100_000.0,
            rope_scaling=None,
            norm_eps=1e-5,
            max_context=8192,
        ),
        ModelShape(
            name="tiny-llama",
            layers=2,
            hidden=64,
            heads=4,
            kv_heads=2,
            head_dim=16,
            intermediate=128,
            vocab=256,
            tied_embeddings=True,
            qkv_bias=False,
            rope_theta=10_000.0,
            rope_scaling=None,
            norm_eps=1e-5,
            max_context=512,
        ),
        ModelShape(
            name="Llama-3.1-8B",
            layers=32,
            hidden=4096,
            heads=32,
            kv_heads=8,
            head_dim=128,
            intermediate=14_336,
            vocab=128_256,
            tied_embeddings=False,
            qkv_bias=False,
            rope_theta=500_000.0,
            rope_scaling=RopeScaling(
                factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=8192
            ),
            norm_eps=1e-5,
            max_context=131_072,
        ),
        ModelShape(
            name="Qwen2-7B",
            layers=28,
            hidden=3584,
            heads=28,
            kv_heads=4,
            head_dim=128,
            intermediate=18_944,
            vocab=152_064,
            tied_embeddings=False,
            qkv_bias=True,
            rope_theta=1_000_000.0,
            rope_scaling=None,
            norm_eps=1e-6,
            max_context=131_072,
        ),
        ModelShape(
            name="Llama-3.2-1B",
            layers=16,
            hidden=2048,
            heads=32,
            kv_heads=8,
            head_dim=64,
            intermediate=8192,
            vocab=128_256,
            tied_embeddings=True,
            qkv_bias=False,
            rope_theta=500_000.0,
            rope_scaling=RopeScaling(
                factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=8192
            ),
            norm_eps=1e-5,
            max_context=131_072,
        ),
        ModelShape(
            name="Qwen3-8B",
            layers=36,
            hidden=4096,
            heads=32,
            kv_heads=8,
            head_dim=128,
            intermediate=12_288,
            vocab=151_936,
            tied_embeddings=False,
            qkv_bias=False,
            rope_theta=1_000_000.0,
            rope_scaling=None,
            norm_eps=1e-6,
            max_context=40_960,
            qk_norm=True,
        ),
        ModelShape(
            name="Mistral-7B-v0.3",
            layers=32,
            hidden=4096,
            heads=32,
            kv_heads=8,
            head_dim=128,
            intermediate=14_336,
            vocab=32_768,
            tied_embeddings=False,
            qkv_bias=False,
            rope_theta=1_000_000.0,
            rope_scaling=None,
            norm_eps=1e-5,
            max_context=32_768,
        ),
    )
}


def named_shape(name: str) -> ModelShape:
    """The shape of that name; ModelError listing the names if there is none."""
    if name not in NAMED_SHAPES:
        raise ModelError(f"unknown model shape {name!r}: expected one of {', '.join(NAMED_SHAPES)}")
    return NAMED_SHAPES[name]


def shape_from_config(config: Mapping[str, Any], name: str) -> ModelShape:
    """Read a Hugging Face `config.json`.

    Raises:
        ModelError: the architecture is not one of `ARCHITECTURES`, the model uses a feature that
            the forward pass does not have, or a number is missing or not a number.
    """
    architecture = _architecture(config, name)
    _refuse_unsupported(config, name)
    rope = _rope_parameters(config, name)
    heads = _integer(config, "num_attention_heads", name)
    hidden = _integer(config, "hidden_size", name)
    layers = _integer(config, "num_hidden_layers", name)
    max_context = _integer(config, "max_position_embeddings", name)
    # Qwen2 has biases without saying so, and none after attention; Mistral has no such option.
    attention_bias = architecture in (LLAMA, QWEN3) and bool(config.get("attention_bias"))
    return ModelShape(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_integer(config, "num_key_value_heads", name, default=heads),
        head_dim=_integer(config, "head_dim", name, default=_head_dim(architecture, hidden, heads)),
        intermediate=_integer(config, "intermediate_size", name),
        vocab=_integer(config, "vocab_size", name),
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
        first = config.get("max_window_layers")
        first = QWEN_WINDOW_LAYERS if first is None else first
        windowed = [index >= first for index in range(layers)]
    types = config.get("layer_types")
    if types is not None and architecture != LLAMA:
        windowed = [x == "sliding_attention" for x in types]
    if not any(windowed):
        return None
    window = _integer(config, "sliding_window", name, default=DEFAULT_WINDOW)
    if window >= max_context:
        return None
    if not all(windowed):
        raise ModelError(
            f"{name}: a sliding window in some layers and not in others is not supported"
        )
    return window


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
        original_context=_integer(rope, "original_max_position_embeddings", name),
    )


def _integer(table: Mapping[str, Any], field: str, name: str, default: int | None = None) -> int:
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

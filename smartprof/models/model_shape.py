"""What a dense Llama-family model is made of, and what that costs in bytes and operations.

Knows nothing about weights, devices or torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import asdict, dataclass

from smartprof.errors import ModelError


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

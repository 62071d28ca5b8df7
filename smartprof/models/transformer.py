"""A Llama-family forward pass over packed tokens, readable in one sitting.

Matrix multiplies see the tokens of all requests packed together, [M, hidden]; only attention is
padded per request. Knows nothing about drafting, verification or text.

Rotary pairs are kept next to each other (entries 2i and 2i+1 of a head form one complex number), so
that a rotation is one complex product; Hugging Face weights, which pair i with i + head_dim/2, are
reordered once on loading. Attention scores are the same for either order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from smartprof.models.cache import KVCache
from smartprof.models.packing import Linear, SmallCounts, can_prepack, prepack_all
from smartprof.models.shapes import ModelShape


@dataclass(frozen=True)
class Attention:
    """Who sees what in one pass: the padded view of the packed tokens.

    rows: the requests of this pass, as a slice of the cache's batch (R of them).
    kv_len: cache slots that any of them sees.
    width: padded tokens per request.
    mask: float [R, 1, width * group, kv_len] added to the scores, or None if all see everything;
        `group` query heads share a key-value head and lie inside the query axis.
    gather: int64 [R * width], packed index of each padded place, or None if nothing is padded.
    scatter: int64 [M], padded place of each packed token, or None if nothing is padded.
    """

    rows: slice
    kv_len: int
    width: int
    mask: Tensor | None
    gather: Tensor | None = None
    scatter: Tensor | None = None


@dataclass(frozen=True)
class PackedInput:
    """The tokens of one pass: ids, positions and flat cache entries, each int64 [M]."""

    tokens: Tensor
    positions: Tensor
    entries: Tensor
    attention: Attention


@dataclass(frozen=True)
class Layer:
    """Weights of one block; q, k, v and gate, up are one product each."""

    input_norm: Tensor
    qkv: Linear
    out: Linear
    post_norm: Tensor
    gate_up: Linear
    down: Linear


class Transformer:
    """A decoder-only model with grouped-query attention, rotary positions and a gated MLP."""

    def __init__(self, shape: ModelShape, weights: dict[str, Tensor], prepack: bool = True) -> None:
        """weights: by their Hugging Face names; those of the layers are taken out of it."""
        self.shape = shape
        self.embedding = weights["model.embed_tokens.weight"]
        self.layers = [_build_layer(shape, weights, i) for i in range(shape.layers)]
        self.norm = weights["model.norm.weight"]
        tied = shape.tied_embeddings
        self.head = Linear(self.embedding if tied else weights["lm_head.weight"])
        self.dtype, self.device = self.embedding.dtype, self.embedding.device
        self.small_counts = SmallCounts()
        if prepack and can_prepack(self.embedding):
            self.small_counts = prepack_all(self.linears)
        self._rotations = rotations(shape, 0, self.device)

    @property
    def linears(self) -> list[Linear]:
        """Every matrix product of a pass, in order."""
        per_layer = [x for y in self.layers for x in (y.qkv, y.out, y.gate_up, y.down)]
        return [*per_layer, self.head]

    def forward(self, batch: PackedInput, cache: KVCache) -> Tensor:
        """Hidden states after the last norm, [M, hidden]; keys and values enter the cache."""
        if cache.columns > len(self._rotations):
            self._rotations = rotations(self.shape, cache.columns, self.device)
        x = F.embedding(batch.tokens, self.embedding)  # [M, hidden]
        turn = self._rotations[batch.positions].unsqueeze(1)  # [M, 1, head_dim / 2] complex
        for index, layer in enumerate(self.layers):
            x = x + self._attend(
                index, layer, self._normed(x, layer.input_norm), turn, batch, cache
            )
            x = x + self._mlp(layer, self._normed(x, layer.post_norm))
        return self._normed(x, self.norm)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, [M, vocab], from hidden states [M, hidden]."""
        return self.head(hidden)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self.shape.norm_eps)

    def _mlp(self, layer: Layer, x: Tensor) -> Tensor:
        gate, up = layer.gate_up(x).chunk(2, dim=-1)  # [M, intermediate] each
        return layer.down(F.silu(gate).mul_(up))

    def _attend(
        self, index: int, layer: Layer, x: Tensor, turn: Tensor, batch: PackedInput, cache: KVCache
    ) -> Tensor:
        heads, kv_heads, size = self.shape.heads, self.shape.kv_heads, self.shape.head_dim
        qkv = layer.qkv(x).view(-1, heads + 2 * kv_heads, size)  # [M, all heads, head_dim]
        turned = rotate(qkv[:, : heads + kv_heads], turn)
        cache.write(index, batch.entries, turned[:, heads:], qkv[:, heads + kv_heads :])
        out = attention(turned[:, :heads], *cache.view(index, *_extent(batch)), batch.attention)
        return layer.out(out.reshape(x.shape[0], heads * size))


def _extent(batch: PackedInput) -> tuple[slice, int]:
    return batch.attention.rows, batch.attention.kv_len


def attention(query: Tensor, keys: Tensor, values: Tensor, plan: Attention) -> Tensor:
    """Masked grouped-query attention of packed queries.

    query [M, heads, head_dim]; keys, values [R, kv_heads, kv_len, head_dim]; returns
    [M, heads, head_dim]. The query heads of one key-value head are folded into the query axis
    instead of repeating keys and values.
    """
    requests, kv_heads, _, size = keys.shape
    group = query.shape[1] // kv_heads
    padded = query if plan.gather is None else query[plan.gather]
    padded = padded.view(requests, plan.width, kv_heads, group, size)
    folded = padded.transpose(1, 2).reshape(requests, kv_heads, plan.width * group, size)
    out = F.scaled_dot_product_attention(folded, keys, values, attn_mask=plan.mask)
    out = out.view(requests, kv_heads, plan.width, group, size).transpose(1, 2)
    out = out.reshape(requests * plan.width, kv_heads * group, size)
    return out if plan.scatter is None else out[plan.scatter]


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Rotary positions: x [M, heads, head_dim] times unit complex numbers [M, 1, head_dim / 2]."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)


def rotations(shape: ModelShape, length: int, device: torch.device) -> Tensor:
    """Unit complex numbers [length, head_dim / 2] of positions 0 ... length - 1."""
    # In float32 throughout, as models are trained and as other implementations do.
    exponent = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    frequency = 1.0 / shape.rope_theta**exponent
    if shape.rope_scaling is not None:
        frequency = _scaled_frequency(frequency, shape)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), frequency)
    return torch.polar(torch.ones_like(angle), angle).to(device)


def _scaled_frequency(frequency: Tensor, shape: ModelShape) -> Tensor:
    """Llama 3.1's long-context scaling: low frequencies are divided, the middle ones blended."""
    scaling = shape.rope_scaling
    assert scaling is not None
    wavelength = 2 * math.pi / frequency
    turns = scaling.original_context / wavelength
    blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = blend.clamp(0, 1)
    return (1 - blend) * frequency / scaling.factor + blend * frequency


def _build_layer(shape: ModelShape, weights: dict[str, Tensor], index: int) -> Layer:
    """One block; its tensors leave `weights`, so that no second copy outlives the joining."""
    prefix = f"model.layers.{index}."
    attn, mlp = prefix + "self_attn.", prefix + "mlp."
    query = _pair_neighbours(weights.pop(attn + "q_proj.weight"), shape.heads)
    key = _pair_neighbours(weights.pop(attn + "k_proj.weight"), shape.kv_heads)
    bias = None
    if shape.qkv_bias:
        query_bias = _pair_neighbours(weights.pop(attn + "q_proj.bias"), shape.heads)
        key_bias = _pair_neighbours(weights.pop(attn + "k_proj.bias"), shape.kv_heads)
        bias = torch.cat([query_bias, key_bias, weights.pop(attn + "v_proj.bias")])
    gate_up = [weights.pop(mlp + "gate_proj.weight"), weights.pop(mlp + "up_proj.weight")]
    return Layer(
        input_norm=weights.pop(prefix + "input_layernorm.weight"),
        qkv=Linear(torch.cat([query, key, weights.pop(attn + "v_proj.weight")]), bias),
        out=Linear(weights.pop(attn + "o_proj.weight")),
        post_norm=weights.pop(prefix + "post_attention_layernorm.weight"),
        gate_up=Linear(torch.cat(gate_up)),
        down=Linear(weights.pop(mlp + "down_proj.weight")),
    )


def _pair_neighbours(weight: Tensor, heads: int) -> Tensor:
    """Reorder rows [heads * head_dim, ...] so that rotary partners stand next to each other."""
    halves = weight.unflatten(0, (heads, 2, -1))  # [heads, half, head_dim / 2, ...]
    return halves.transpose(1, 2).flatten(0, 2).contiguous()

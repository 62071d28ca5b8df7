"""One transformer block over packed tokens: attention with a cache, then a gated MLP.

The same block serves a target's layers and the single layer of a draft head, whose attention reads
an input of another width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from smartprof.models.cache import KVCache
from smartprof.models.inputs import PackedInput
from smartprof.models.packing import Linear
from smartprof.models.rotary import pair_neighbours, rotate_
from smartprof.models.shapes import ModelShape


@dataclass(frozen=True)
class Block:
    """Weights of one block; q, k, v and gate, up are one product each.

    head_norm: [heads + kv_heads, head_dim], of queries and keys before rotation, where a family
    has one. input_norm: None where the caller norms the attention's input itself.
    """

    shape: ModelShape
    input_norm: Tensor | None
    qkv: Linear
    head_norm: Tensor | None
    out: Linear
    post_norm: Tensor
    gate_up: Linear
    down: Linear

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The matrix products, in order."""
        return self.qkv, self.out, self.gate_up, self.down

    def __call__(
        self, x: Tensor, index: int, turn: Tensor, batch: PackedInput, cache: KVCache
    ) -> Tensor:
        """Residual stream [M, hidden] before the block to that after it."""
        assert self.input_norm is not None
        normed = rms_norm(x, self.input_norm, self.shape.norm_eps)
        return self.feed_forward(self.attend(normed, x, index, turn, batch, cache))

    def attend(
        self,
        normed: Tensor,
        residual: Tensor,
        index: int,
        turn: Tensor,
        batch: PackedInput,
        cache: KVCache,
    ) -> Tensor:
        """residual [M, hidden] plus the attention of `normed`; keys and values enter the cache.

        index: the layer of the cache. turn: [M, 1, head_dim / 2], unit complex numbers.
        """
        heads, kv_heads, size = self.shape.heads, self.shape.kv_heads, self.shape.head_dim
        qkv = self.qkv(normed).view(-1, heads + 2 * kv_heads, size)  # [M, all heads, head_dim]
        turned = qkv[:, : heads + kv_heads]
        if self.head_norm is not None:
            turned.copy_(rms_norm(turned, self.head_norm, self.shape.norm_eps))
        rotate_(turned, turn)
        cache.write(index, batch.entries, qkv[:, heads:], batch.first_entry)
        out = batch.attention(qkv[:, :heads], cache, index)
        return self.out.add_to(residual, out.view(len(residual), heads * size))

    def feed_forward(self, x: Tensor) -> Tensor:
        """x [M, hidden] plus the gated MLP of its norm."""
        gate_up = self.gate_up(rms_norm(x, self.post_norm, self.shape.norm_eps))
        gate, up = gate_up.chunk(2, dim=-1)  # [M, intermediate] each
        return self.down.add_to(x, F.silu(gate).mul_(up))


def build_block(shape: ModelShape, weights: dict[str, Tensor], prefix: str) -> Block:
    """One block; its tensors leave `weights`, so that no second copy outlives the joining."""
    attn, mlp = prefix + "self_attn.", prefix + "mlp."
    query = pair_neighbours(weights.pop(attn + "q_proj.weight"), shape.heads)
    key = pair_neighbours(weights.pop(attn + "k_proj.weight"), shape.kv_heads)
    bias = None
    if shape.qkv_bias:
        query_bias = pair_neighbours(weights.pop(attn + "q_proj.bias"), shape.heads)
        key_bias = pair_neighbours(weights.pop(attn + "k_proj.bias"), shape.kv_heads)
        bias = torch.cat([query_bias, key_bias, weights.pop(attn + "v_proj.bias")])
    head_norm = None
    if shape.qk_norm:
        query_norm = pair_neighbours(weights.pop(attn + "q_norm.weight"), 1)
        key_norm = pair_neighbours(weights.pop(attn + "k_norm.weight"), 1)
        head_norm = torch.stack([query_norm] * shape.heads + [key_norm] * shape.kv_heads)
    gate_up = [weights.pop(mlp + "gate_proj.weight"), weights.pop(mlp + "up_proj.weight")]
    return Block(
        shape=shape,
        input_norm=weights.pop(prefix + "input_layernorm.weight", None),
        qkv=Linear(torch.cat([query, key, weights.pop(attn + "v_proj.weight")]), bias),
        head_norm=head_norm,
        out=Linear(
            weights.pop(attn + "o_proj.weight"),
            weights.pop(attn + "o_proj.bias") if shape.out_bias else None,
        ),
        post_norm=weights.pop(prefix + "post_attention_layernorm.weight"),
        gate_up=Linear(torch.cat(gate_up)),
        down=Linear(weights.pop(mlp + "down_proj.weight")),
    )


@cache
def _scalar(value: float) -> Tensor:
    return torch.tensor(value)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x [..., size] over its root mean square, times weight (broadcast)."""
    if x.device.type == "cpu" and x.dtype == torch.float32:  # a third faster than torch's own here
        length = torch.linalg.vector_norm(x, 2, -1, keepdim=True)
        scale = torch.addcmul(_scalar(eps), length, length, value=1 / x.shape[-1]).rsqrt_()
        return (x * scale).mul_(weight)
    return F.rms_norm(x, x.shape[-1:], None, eps) * weight

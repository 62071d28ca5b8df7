"""One transformer block over packed tokens: attention with a cache, then a gated MLP.

The same block serves a target's layers and the single layer of a draft head, whose attention reads
an input of another width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from smartprof.models.attention import interleave_heads
from smartprof.models.cache import KVCache
from smartprof.models.gating import gate_
from smartprof.models.inputs import PackedInput
from smartprof.models.packing import Linear
from smartprof.models.rotary import pair_neighbours, rotate_
from smartprof.models.shapes import ModelShape
from smartprof.models.workspace import NO_WORKSPACE, Workspace, split_gates, split_heads


@dataclass(frozen=True)
class Block:
    """Weights of one block; q, k, v and gate, up are one product each.

    head_norm: [heads + kv_heads, head_dim], of queries and keys before rotation, where a family
    has one. input_norm: None where the attention's input is normed already.
    """

    shape: ModelShape
    input_norm: Norm | None
    qkv: Linear
    head_norm: Tensor | None
    out: Linear
    post_norm: Norm
    gate_up: Linear
    down: Linear

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The matrix products, in order."""
        return self.qkv, self.out, self.gate_up, self.down

    def __call__(
        self,
        x: Tensor,
        index: int,
        turn: Tensor,
        batch: PackedInput,
        cache: KVCache,
        space: Workspace = NO_WORKSPACE,
    ) -> Tensor:
        """Residual stream [M, hidden] before the block to that after it, a new tensor."""
        return self.feed_forward(self.attend(x, x, index, turn, batch, cache, space), space)

    def attend(
        self,
        x: Tensor,
        residual: Tensor,
        index: int,
        turn: Tensor,
        batch: PackedInput,
        cache: KVCache,
        space: Workspace = NO_WORKSPACE,
    ) -> Tensor:
        """residual [M, hidden] plus the attention of x's norm; keys and values enter the cache.

        index: the layer of the cache. turn: [M, 1, head_dim / 2], unit complex numbers.
        """
        made = space.heads
        out = None if made is None else made.joined
        qkv = _of_normed(self.qkv, self.input_norm, x, space, out)  # [M, all heads * head_dim]
        heads = made if made is not None and qkv is made.joined else split_heads(qkv, self.shape)
        if self.head_norm is not None:
            heads.turned.copy_(rms_norm(heads.turned, self.head_norm, self.shape.norm_eps))
        rotate_(heads.pairs, turn)
        cache.write(index, batch.entries, heads.keys_values, batch.first_entry)
        attended = batch.attention(heads.query, cache, index)  # [M, heads, head_dim]
        return self.out.add_to(residual, attended.view(len(qkv), -1))

    def feed_forward(self, x: Tensor, space: Workspace = NO_WORKSPACE) -> Tensor:
        """x [M, hidden] plus the gated MLP of its norm."""
        made = space.gates
        out = None if made is None else made.joined
        joined = _of_normed(self.gate_up, self.post_norm, x, space, out)
        gates = made if made is not None and joined is made.joined else split_gates(joined)
        return self.down.add_to(x, gate_(gates))


def build_block(shape: ModelShape, weights: dict[str, Tensor], prefix: str) -> Block:
    """One block; its tensors leave `weights`, so that no second copy outlives the joining."""
    attn, mlp = prefix + "self_attn.", prefix + "mlp."
    query = _query_rows(weights.pop(attn + "q_proj.weight"), shape)
    key = pair_neighbours(weights.pop(attn + "k_proj.weight"), shape.kv_heads)
    bias = None
    if shape.qkv_bias:
        query_bias = _query_rows(weights.pop(attn + "q_proj.bias"), shape)
        key_bias = pair_neighbours(weights.pop(attn + "k_proj.bias"), shape.kv_heads)
        bias = torch.cat([query_bias, key_bias, weights.pop(attn + "v_proj.bias")])
    head_norm = None
    if shape.qk_norm:
        query_norm = pair_neighbours(weights.pop(attn + "q_norm.weight"), 1)
        key_norm = pair_neighbours(weights.pop(attn + "k_norm.weight"), 1)
        head_norm = torch.stack([query_norm] * shape.heads + [key_norm] * shape.kv_heads)
    qkv = torch.cat([query, key, weights.pop(attn + "v_proj.weight")])
    gate_up = torch.cat([weights.pop(mlp + x + "_proj.weight") for x in ("gate", "up")])
    input_norm = weights.pop(prefix + "input_layernorm.weight", None)
    post_norm = weights.pop(prefix + "post_attention_layernorm.weight")
    return Block(
        shape=shape,
        input_norm=None if input_norm is None else _norm_before(qkv, input_norm, shape.norm_eps),
        qkv=Linear(qkv, bias),
        head_norm=head_norm,
        out=Linear(
            interleave_heads(
                weights.pop(attn + "o_proj.weight"), shape.kv_heads, shape.head_dim, dim=1
            ),
            weights.pop(attn + "o_proj.bias") if shape.out_bias else None,
        ),
        post_norm=_norm_before(gate_up, post_norm, shape.norm_eps),
        gate_up=Linear(gate_up),
        down=Linear(weights.pop(mlp + "down_proj.weight")),
    )


def _query_rows(weight: Tensor, shape: ModelShape) -> Tensor:
    """Rows [heads * head_dim, ...] in the orders of rotation and attention."""
    paired = pair_neighbours(weight, shape.heads)
    return interleave_heads(paired, shape.kv_heads, shape.head_dim)


@dataclass(frozen=True)
class Norm:
    """RMS norm before a product.

    weight: [hidden], or None where the product has taken it in, and the root of the size with it.
    """

    weight: Tensor | None
    eps: float

    def __call__(self, x: Tensor, space: Workspace = NO_WORKSPACE) -> Tensor:
        """x [M, hidden] normed, as its product takes it; in the workspace where it can be."""
        if self.weight is not None:
            return rms_norm(x, self.weight, self.eps)
        length = torch.linalg.vector_norm(x, 2, -1, keepdim=True, out=space.length)  # [M, 1]
        length.hypot_(_scalar(math.sqrt(self.eps * x.shape[1])))
        return torch.div(x, length, out=space.normed)


def _of_normed(
    product: Linear, norm: Norm | None, x: Tensor, space: Workspace, out: Tensor | None
) -> Tensor:
    """The product of x's norm; of x itself if there is none."""
    if norm is None:
        return product(x, out)
    if norm.weight is None and product.norms(len(x)):
        return product.of_normed(x, norm.eps * x.shape[1], out)
    return product(norm(x, space), out)


def _norm_before(product: Tensor, weight: Tensor, eps: float) -> Norm:
    """Let weights [out, hidden] take in the norm's own, in place; in narrower dtypes it stays."""
    if not is_cpu_float32(product):
        return Norm(weight, eps)
    product.mul_(weight * math.sqrt(len(weight)))
    return Norm(None, eps)


def is_cpu_float32(x: Tensor) -> bool:
    """Whether the ways of a CPU in float32 serve a tensor."""
    return x.device.type == "cpu" and x.dtype == torch.float32


@cache
def _scalar(value: float) -> Tensor:
    return torch.tensor(value)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x [..., size] over its root mean square, times weight (broadcast)."""
    if is_cpu_float32(x):  # a third faster than torch's own here
        length = torch.linalg.vector_norm(x, 2, -1, keepdim=True)
        scale = torch.addcmul(_scalar(eps), length, length, value=1 / x.shape[-1]).rsqrt_()
        return (x * scale).mul_(weight)
    return F.rms_norm(x, x.shape[-1:], None, eps) * weight

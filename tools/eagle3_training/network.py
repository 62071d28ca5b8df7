"""A draft head that can be trained: EAGLE-3's layer, unrolled over its own outputs.

Li, Wei, Zhang and Zhang, "EAGLE-3", arXiv 2503.01840, section 3.2 (training-time test). Parameters
have the names of the public layout, so that a checkpoint is the state of this module; the decoder's
own `Eagle3Head` must agree with it, which a test checks.

Query a of a sequence is the entry that proposes its a-th answer token at the first step. At step k
it stands one position further on, its hidden state is its own output of the step before, and it
attends to what the first step wrote up to its place and to its own earlier steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eagle3_training.batches import Batch
from smartprof.models.eagle3_config import FEATURES, Eagle3Shape
from smartprof.models.rotary import rotations
from smartprof.models.shapes import ModelShape


class Norm(nn.Module):
    """RMS norm."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x [..., size], in float32."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """The projections of the layer's attention; the input has twice the hidden size."""

    def __init__(self, layer: ModelShape) -> None:
        super().__init__()
        query, key = layer.heads * layer.head_dim, layer.kv_heads * layer.head_dim
        self.q_proj = nn.Linear(2 * layer.hidden, query, bias=False)
        self.k_proj = nn.Linear(2 * layer.hidden, key, bias=False)
        self.v_proj = nn.Linear(2 * layer.hidden, key, bias=False)
        self.o_proj = nn.Linear(query, layer.hidden, bias=False)


class Mlp(nn.Module):
    """The gated MLP."""

    def __init__(self, layer: ModelShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(layer.hidden, layer.intermediate, bias=False)
        self.up_proj = nn.Linear(layer.hidden, layer.intermediate, bias=False)
        self.down_proj = nn.Linear(layer.intermediate, layer.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., hidden] to [..., hidden]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """The head's one layer."""

    def __init__(self, layer: ModelShape) -> None:
        super().__init__()
        self.input_layernorm = Norm(layer.hidden, layer.norm_eps)
        self.hidden_norm = Norm(layer.hidden, layer.norm_eps)
        self.post_attention_layernorm = Norm(layer.hidden, layer.norm_eps)
        self.self_attn = Attention(layer)
        self.mlp = Mlp(layer)


class TrainableHead(nn.Module):
    """All parameters of a head, and its rollout."""

    rotation: Tensor  # [positions, head_dim / 2], complex
    embedding: Tensor  # [vocab, hidden], the target's, not trained
    spread: Tensor  # [3 * hidden], what features are divided by before `fc`

    def __init__(
        self, shape: Eagle3Shape, embedding: Tensor, spread: Tensor, positions: int
    ) -> None:
        """spread: of the features, so that `fc` sees unit size, for which its optimiser is made.

        positions: most tokens of a sequence, steps included.
        """
        super().__init__()
        layer = shape.layer
        self.shape = shape
        self.fc = nn.Linear(FEATURES * shape.target_hidden, layer.hidden, bias=False)
        self.midlayer = Layer(layer)
        self.norm = Norm(layer.hidden, layer.norm_eps)
        self.lm_head = nn.Linear(layer.hidden, shape.draft_vocab, bias=False)
        turns = rotations(layer, positions, embedding.device)
        self.register_buffer("rotation", turns, persistent=False)
        self.register_buffer("embedding", embedding, persistent=False)
        self.register_buffer("spread", spread, persistent=False)

    def logits(self, output: Tensor) -> Tensor:
        """Scores [..., draft vocabulary] of outputs [..., hidden]."""
        return self.lm_head(self.norm(output))

    def forward(self, batch: Batch, steps: int) -> list[Tensor]:
        """Outputs [B, A, hidden] of each step, before the last norm."""
        batch_index = torch.arange(len(batch.tokens), device=batch.tokens.device)[:, None]
        entry = batch.entry  # [B, A]
        hidden = self.fc(batch.features / self.spread)  # [B, T, hidden]
        joined = self._joined(batch.tokens[:, 1:], hidden)
        place = torch.arange(hidden.shape[1], device=hidden.device)
        attention = self.midlayer.self_attn
        keys = self._turned(attention.k_proj(joined), place[None])
        values = self._heads(attention.v_proj(joined))
        seen = place <= entry[..., None]  # [B, A, T]
        hidden, joined = hidden[batch_index, entry], joined[batch_index, entry]
        own: list[tuple[Tensor, Tensor]] = []
        outputs = []
        for step in range(steps):
            position = entry + step
            if step:
                token = batch.tokens.gather(1, (position + 1).clamp(max=batch.tokens.shape[1] - 1))
                joined = self._joined(token, hidden)
                key = self._turned(attention.k_proj(joined), position)
                own.append((key, self._heads(attention.v_proj(joined))))
            query = self._turned(attention.q_proj(joined), position)
            mixed = self._attend(query, keys, values, seen, own)
            hidden = hidden + attention.o_proj(mixed)
            hidden = hidden + self.midlayer.mlp(self.midlayer.post_attention_layernorm(hidden))
            outputs.append(hidden)
        return outputs

    def _joined(self, token: Tensor, hidden: Tensor) -> Tensor:
        """[..., 2 * hidden], the input of the attention."""
        embedded = self.midlayer.input_layernorm(F.embedding(token, self.embedding))
        return torch.cat([embedded, self.midlayer.hidden_norm(hidden)], -1)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.shape.layer.head_dim))

    def _turned(self, x: Tensor, position: Tensor) -> Tensor:
        """x [B, n, heads * head_dim] to [B, n, heads, head_dim], turned by positions [B, n]."""
        turn = self.rotation[position.clamp(max=len(self.rotation) - 1)].unsqueeze(-2)
        cos, sin = turn.real, turn.imag
        first, second = self._heads(x).float().chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    def _attend(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        seen: Tensor,
        own: list[tuple[Tensor, Tensor]],
    ) -> Tensor:
        """[B, A, heads * head_dim] from query [B, A, heads, head_dim], keys [B, T, ...].

        own: each earlier and the present step's own key and value, [B, A, kv_heads, head_dim].
        """
        kv_heads, size = keys.shape[-2:]
        group = query.shape[-2] // kv_heads
        query = query.unflatten(-2, (kv_heads, group)) * size**-0.5  # [B, A, kv, group, size]
        scores = torch.einsum("bakgd,btkd->bkgat", query, keys).float()
        scores = scores.masked_fill(~seen[:, None, None], float("-inf"))
        later = [torch.einsum("bakgd,bakd->bkga", query, x).float() for x, _ in own]
        weight = torch.cat([scores, *(x[..., None] for x in later)], -1).softmax(-1)
        count = keys.shape[1]
        mixed = torch.einsum("bkgat,btkd->bakgd", weight[..., :count].to(values.dtype), values)
        for place, (_, value) in enumerate(own):
            share = weight[..., count + place].permute(0, 3, 1, 2)[..., None]
            mixed = mixed + share * value[..., None, :]
        return mixed.flatten(2)

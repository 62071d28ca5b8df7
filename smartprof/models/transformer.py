"""A Llama-family forward pass over packed tokens, readable in one sitting with `block`.

Matrix multiplies see the tokens of all requests packed together, [M, hidden]; only attention treats
requests one by one. Knows nothing about drafting, verification or text.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from smartprof.models.block import build_block, is_cpu_float32, rms_norm
from smartprof.models.cache import KVCache
from smartprof.models.inputs import PackedInput
from smartprof.models.kernel_memory import KernelMemory
from smartprof.models.packing import Linear, kernels_text
from smartprof.models.rotary import rotations
from smartprof.models.shapes import ModelShape
from smartprof.models.tuning import tune
from smartprof.models.workspace import NO_WORKSPACE, Workspace, make_workspace

MOST_SPACED = 32  # tokens of a pass from which on a workspace saves nothing worth its memory


class Transformer:
    """A decoder-only model with grouped-query attention, rotary positions and a gated MLP.

    layout and the kernels of its `linears`: how its passes run fastest on this device; `kernels`
    tells what was found.
    """

    def __init__(
        self,
        shape: ModelShape,
        weights: dict[str, Tensor],
        prepack: bool = True,
        memory: KernelMemory | None = None,
    ) -> None:
        """weights: by their Hugging Face names; those of the layers are taken out of it.

        memory: of how passes run fastest; None measures it now, and keeps nothing.
        """
        self.shape = shape
        self.embedding = weights["model.embed_tokens.weight"]
        self.blocks = [
            build_block(shape, weights, f"model.layers.{i}.") for i in range(shape.layers)
        ]
        self.norm = weights["model.norm.weight"]
        tied = shape.tied_embeddings
        self.head = Linear(self.embedding if tied else weights["lm_head.weight"])
        self.dtype, self.device = self.embedding.dtype, self.embedding.device
        self.layout = tune(self.linears if prepack else [], shape, self.embedding, memory)
        self._rotations = rotations(shape, 0, self.device)
        self._outgrown: list[Tensor] = []  # earlier, shorter ones: captured graphs still read them
        self._spaces: dict[int, Workspace] = {}  # by the number of tokens

    def part(self, first: int, last: int) -> Transformer:
        """The same with the layers from `first` to before `last` only; weights are shared."""
        found = copy.copy(self)
        found.blocks = self.blocks[first:last]
        found.shape = replace(self.shape, layers=last - first)
        return found

    @property
    def linears(self) -> list[Linear]:
        """Every matrix product of a pass, in order."""
        return [*(x for y in self.blocks for x in y.linears), self.head]

    def forward(self, batch: PackedInput, cache: KVCache) -> Tensor:
        """Hidden states after the last norm, [M, hidden].

        Keys and values enter the cache, and so do the inputs of the layers that it taps.
        """
        if cache.columns > len(self._rotations):
            self._outgrown.append(self._rotations)
            self._rotations = rotations(self.shape, cache.columns, self.device)
        x = F.embedding(batch.tokens, self.embedding)  # [M, hidden]
        turn = self._rotations[batch.positions].unsqueeze(1)  # [M, 1, head_dim / 2] complex
        space = self._space(len(x))
        for index, block in enumerate(self.blocks):
            if index in cache.taps:
                cache.write_feature(index, batch.entries, x)
            x = block(x, index, turn, batch, cache, space)
        return rms_norm(x, self.norm, self.shape.norm_eps)

    def _space(self, tokens: int) -> Workspace:
        """The workspace that all passes of so many tokens share, one after the other."""
        if tokens > MOST_SPACED or not is_cpu_float32(self.embedding):
            return NO_WORKSPACE
        if tokens not in self._spaces:
            self._spaces[tokens] = make_workspace(self.shape, tokens)
        return self._spaces[tokens]

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, [M, vocab], from hidden states [M, hidden]."""
        return self.head(hidden)

    @property
    def products(self) -> str:
        """In which ways its matrix products run, in one line."""
        return kernels_text(self.linears)

    @property
    def kernels(self) -> str:
        """What was measured and chosen for this device, in one line."""
        costs = self.layout.costs
        if costs is None:
            return self.products
        found = {"padded": costs.together, "ragged": costs.ragged}
        attention = "; ".join(
            f"{name} attention {1e6 * x.call_seconds:.0f} us a call, {1e9 * x.slot_seconds:.0f} "
            f"ns a key, {1e9 * x.pair_seconds:.1f} ns a token and key"
            for name, x in found.items()
            if x is not None
        )
        return f"{self.products}; {attention}"

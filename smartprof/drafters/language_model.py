"""Drafting with a smaller language model of the same tokenizer.

Leviathan, Kalman and Matias, "Fast Inference from Transformers via Speculative Decoding",
arXiv 2211.17192; with trees instead of chains, and verified by the target alone.
"""

from __future__ import annotations

from torch import Tensor

from smartprof.drafters.model_drafter import Ids, ModelDrafter
from smartprof.models.inputs import Tokens, packed_input
from smartprof.models.transformer import Transformer


class LanguageModelDrafter(ModelDrafter):
    """Proposes what a draft model would say next."""

    name = "lm"

    def __init__(self, model: Transformer, vocab: int) -> None:
        """vocab: tokens of the target; ids from there on, which pad the draft's table, never."""
        super().__init__(model.shape, f"lm-{model.shape.digest}")
        self.model, self.vocab = model, vocab

    def _committed(self, tokens: Tokens) -> Tensor:
        assert self.cache is not None
        batch = packed_input(self.cache, tokens, self.model.layout, len(tokens.token))
        return self.model.forward(batch, self.cache)

    def _drafted(self, tokens: Tokens, parent: Ids) -> Tensor:
        return self._committed(tokens)

    def _scores(self, outputs: Tensor) -> Tensor:
        return self.model.logits(outputs)[:, : self.vocab]

"""Drafting with a smaller language model of the same tokenizer.

Leviathan, Kalman and Matias, "Fast Inference from Transformers via Speculative Decoding",
arXiv 2211.17192; with trees instead of chains, and verified by the target alone.
"""

from __future__ import annotations

from torch import Tensor

from smartprof.drafters.model_drafter import Ids, ModelDrafter
from smartprof.models.cache import KVCache
from smartprof.models.execution import EAGER, Execution
from smartprof.models.inputs import Tokens
from smartprof.models.transformer import Transformer


class LanguageModelDrafter(ModelDrafter):
    """Proposes what a draft model would say next."""

    name = "lm"

    def __init__(self, model: Transformer, vocab: int, execution: Execution = EAGER) -> None:
        """vocab: tokens of the target; ids from there on, which pad the draft's table, never."""
        super().__init__(model.shape, f"lm-{model.shape.digest}", execution=execution)
        self.model, self.vocab = model, vocab

    def _open(self, cache: KVCache) -> None:
        model = self.model
        self._hidden = self._runner(
            lambda batch: (model.forward(batch, cache),), model.layout, "draft catch-up"
        )
        self._step = self._runner(
            lambda batch: (hidden := model.forward(batch, cache), model.logits(hidden)),
            model.layout,
            "draft step",
        )

    def _committed(self, tokens: Tokens) -> Tensor:
        return self._hidden.run(tokens, len(tokens.token))[0]

    def _drafted(self, tokens: Tokens, parent: Ids) -> tuple[Tensor, Tensor]:
        outputs, scores = self._step.run(tokens, len(tokens.token))
        return outputs, scores[:, : self.vocab]

    def _scores(self, outputs: Tensor) -> Tensor:
        return self.model.logits(outputs)[:, : self.vocab]

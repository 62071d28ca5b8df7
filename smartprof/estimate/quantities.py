"""The five quantities of a profile as functions of a machine, a target and a drafter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from smartprof.errors import ModelError
from smartprof.estimate.machine import NODE_SECONDS, REQUEST_SECONDS, Machine
from smartprof.estimate.passes import (
    HEAD_KERNELS,
    Product,
    forward_seconds,
    layer_products,
    layer_seconds,
    product_seconds,
    read_elements,
)
from smartprof.models.eagle3_config import FEATURES, Eagle3Shape
from smartprof.models.named_heads import NAMED_HEADS, PREFIX, named_head
from smartprof.models.shapes import ModelShape, named_shape

SCORE_BYTES = 4  # of a logit that children are chosen by


class DraftNetwork(ABC):
    """What a drafter of an estimate costs. Seconds; rows and tokens of the whole batch."""

    kind: str
    name: str
    digest: str

    @abstractmethod
    def step(self, machine: Machine, batch: int, rows: int, context: float) -> float:
        """One step over `rows` nodes."""

    @abstractmethod
    def catchup(self, machine: Machine, batch: int, accepted: int, context: float) -> float:
        """Taking in `accepted` tokens and proposing for the roots, one per request."""

    @property
    @abstractmethod
    def elements(self) -> int:
        """Weights that a step reads."""

    @abstractmethod
    def cache_bytes(self, element_bytes: int) -> int:
        """Of one token, in its key-value cache."""


@dataclass(frozen=True)
class Head(DraftNetwork):
    """An EAGLE-3 head: one layer over the embedding and a state, side by side."""

    shape: Eagle3Shape
    kind: str = "eagle3"

    @property
    def name(self) -> str:  # type: ignore[override]
        """As named."""
        return self.shape.name

    @property
    def digest(self) -> str:  # type: ignore[override]
        """Of its sizes."""
        return self.shape.digest

    @property
    def _output(self) -> Product:
        return Product(self.shape.draft_vocab, self.shape.layer.hidden)

    def step(self, machine: Machine, batch: int, rows: int, context: float) -> float:
        """The layer, its output over the draft vocabulary, and the choice of children."""
        return self._layer(machine, batch, rows, context) + self._propose(machine, rows)

    def catchup(self, machine: Machine, batch: int, accepted: int, context: float) -> float:
        """Target features are fused first; only the roots' outputs are read."""
        fusing = Product(self.shape.layer.hidden, FEATURES * self.shape.target_hidden)
        return (
            product_seconds(machine, fusing, accepted)
            + self._layer(machine, batch, accepted, context)
            + self._propose(machine, batch)
        )

    def _layer(self, machine: Machine, batch: int, rows: int, context: float) -> float:
        layer = self.shape.layer
        return layer_seconds(machine, layer, batch, rows, context, 2 * layer.hidden)

    def _propose(self, machine: Machine, rows: int) -> float:
        return _proposing(machine, rows, self.shape.draft_vocab) + product_seconds(
            machine, self._output, rows
        )

    @property
    def elements(self) -> int:
        """Of the layer and the output matrix."""
        layer = layer_products(self.shape.layer, 2 * self.shape.layer.hidden)
        return sum(x.elements for x in (*layer, self._output))

    def cache_bytes(self, element_bytes: int) -> int:
        """Of its one layer."""
        return self.shape.layer.kv_bytes_per_token(element_bytes)


@dataclass(frozen=True)
class Model(DraftNetwork):
    """A smaller language model of the target's vocabulary."""

    shape: ModelShape
    kind: str = "lm"

    @property
    def name(self) -> str:  # type: ignore[override]
        """As named."""
        return self.shape.name

    @property
    def digest(self) -> str:  # type: ignore[override]
        """Of its sizes."""
        return self.shape.digest

    def step(self, machine: Machine, batch: int, rows: int, context: float) -> float:
        """A whole pass and the choice of children."""
        passing = forward_seconds(machine, self.shape, batch, rows, context, rows)
        return passing + _proposing(machine, rows, self.shape.vocab)

    def catchup(self, machine: Machine, batch: int, accepted: int, context: float) -> float:
        """A whole pass with the logits of the roots."""
        passing = forward_seconds(machine, self.shape, batch, accepted, context, batch)
        return passing + _proposing(machine, batch, self.shape.vocab)

    @property
    def elements(self) -> int:
        """All of its matrices."""
        return read_elements(self.shape)

    def cache_bytes(self, element_bytes: int) -> int:
        """Of all its layers."""
        return self.shape.kv_bytes_per_token(element_bytes)


def _proposing(machine: Machine, rows: int, vocab: int) -> float:
    """Softmax and the best of each row read the scores twice; the rest is fixed."""
    scores = 2 * SCORE_BYTES * rows * vocab / machine.bandwidth
    return scores + HEAD_KERNELS * machine.kernel_seconds + machine.step_seconds


def find_drafter(name: str, target: ModelShape) -> DraftNetwork:
    """A named head (`EAGLE3-...`) or a named shape that drafts for this target.

    Raises ModelError for an unknown name or a network of other sizes or tokens.
    """
    if name in NAMED_HEADS or name.startswith(PREFIX):
        head = named_head(name)
        if (head.target_hidden, head.layer.vocab) != (target.hidden, target.vocab):
            raise ModelError(
                f"{name}: expected a head for {target.name} (hidden {target.hidden}, "
                f"{target.vocab} tokens), got one for hidden {head.target_hidden}, "
                f"{head.layer.vocab} tokens: use {PREFIX}{target.name}"
            )
        return Head(head)
    shape = named_shape(name)
    if shape.vocab != target.vocab:
        raise ModelError(
            f"{name}: expected the {target.vocab} tokens of {target.name}, got {shape.vocab}: "
            f"choose a model of the same family, or {PREFIX}{target.name}"
        )
    return Model(shape)


def verify(machine: Machine, target: ModelShape, batch: int, tokens: int, context: float) -> float:
    """One pass of the target with the logits of all its tokens."""
    return forward_seconds(machine, target, batch, tokens, context, tokens)


def round_overhead(machine: Machine, target: ModelShape, batch: int, tokens: int) -> float:
    """Scheduling, choosing tokens from the logits, and moving accepted rows."""
    scores = SCORE_BYTES * tokens * target.vocab / machine.bandwidth
    return machine.round_seconds + REQUEST_SECONDS * batch + NODE_SECONDS * tokens + scores


def plain_decode(machine: Machine, target: ModelShape, batch: int, context: float) -> float:
    """A plain round: one token per request, overhead included."""
    passing = verify(machine, target, batch, batch, context)
    return passing + round_overhead(machine, target, batch, batch)

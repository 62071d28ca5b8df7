"""Fit a head to what the target would say, over several of the head's own steps.

Stops and goes on to the same weights: batches follow from seed and number, the state of the
optimisers is kept beside the weights.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eagle3_training.batches import Batch, Examples, batches, in_order
from eagle3_training.loss import Judged, losses
from eagle3_training.network import TrainableHead
from smartprof.atomic import write_atomically
from smartprof.errors import InputError
from smartprof.models.loading import DTYPES

STATE_FILE, LOG_FILE = "state.pt", "log.jsonl"
CLIP = 1.0
BETAS = (0.9, 0.95)
MOMENTUM = 0.95
LEAST = 0.05  # of the full rate, in the end


@dataclass(frozen=True)
class TrainOptions:
    """How a head is trained.

    steps: updates. queries: answer tokens of one. rollout: steps of the head's own, weighted by
    decay ** step. matrix_rate: learning rate of the layer's matrices, by Muon (Jordan, 2024);
    rate: of the norms and of the last matrix, by AdamW; both rise over `warmup`, a share of the
    steps, and fall as a cosine to `LEAST` of themselves. every: steps between lines of the log.
    data, start: digests of the data and of the head that it goes on from.
    """

    steps: int
    data: str
    start: str = ""
    queries: int = 2048
    rollout: int = 4
    decay: float = 0.8
    rate: float = 2e-3
    matrix_rate: float = 5e-3
    warmup: float = 0.02
    seed: int = 0
    dtype: str = "float32"
    every: int = 100


class Trainer:
    """A head in training, its optimisers, and how many updates it had."""

    def __init__(self, head: TrainableHead, options: TrainOptions) -> None:
        """Raises InputError if this torch has no Muon."""
        if not hasattr(torch.optim, "Muon"):
            raise InputError(f"expected torch 2.9 or newer for training, got {torch.__version__}")
        self.head, self.options, self.done = head, options, 0
        matrices = [x for n, x in head.named_parameters() if x.dim() == 2 and n != "lm_head.weight"]
        others = [x for n, x in head.named_parameters() if x.dim() != 2 or n == "lm_head.weight"]
        self.optimisers = [
            torch.optim.Muon(matrices, lr=options.matrix_rate, momentum=MOMENTUM, weight_decay=0.0),
            torch.optim.AdamW(others, lr=options.rate, betas=BETAS, weight_decay=0.0),
        ]
        self._rates = [options.matrix_rate, options.rate]

    def update(self, batch: Batch) -> Judged:
        """One step of all optimisers."""
        for optimiser, rate in zip(self.optimisers, self._rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * self._schedule()
            optimiser.zero_grad()
        loss, judged = self._losses(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), CLIP)
        for optimiser in self.optimisers:
            optimiser.step()
        self.done += 1
        return judged

    @torch.no_grad()
    def judge(self, found: Iterator[Batch]) -> dict[str, Any]:
        """Loss and agreement over some batches."""
        return summary([self._losses(x)[1] for x in found])

    def _losses(self, batch: Batch) -> tuple[Tensor, Judged]:
        batch = batch.to(self.head.embedding.device)
        with self._autocast():
            outputs = self.head(batch, self.options.rollout)
        dtype = DTYPES[self.options.dtype]
        return losses(self.head, outputs, batch, self.options.decay, dtype)

    def _autocast(self) -> Any:
        if self.options.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.head.embedding.device.type, torch.bfloat16)

    def _schedule(self) -> float:
        """Share of the full rate."""
        progress = self.done / self.options.steps
        rising = min(1.0, (progress + 1 / self.options.steps) / max(self.options.warmup, 1e-9))
        return rising * (LEAST + (1 - LEAST) * 0.5 * (1 + math.cos(math.pi * progress)))

    def save(self, folder: Path) -> None:
        """Write weights and optimisers at once, or not at all."""
        state = {
            "options": asdict(self.options),
            "done": self.done,
            "head": self.head.state_dict(),
            "optimisers": [x.state_dict() for x in self.optimisers],
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_atomically(content.getvalue(), folder / STATE_FILE, force=True)

    def resume(self, folder: Path) -> None:
        """Go on from what `save` wrote, if there is anything.

        Raises:
            InputError: it was another training.
        """
        path = folder / STATE_FILE
        if not path.exists():
            return
        state = torch.load(path, map_location=self.head.embedding.device, weights_only=True)
        if state["options"] != asdict(self.options):
            raise InputError(
                f"{path}: expected a training with the same options and data, got one with "
                f"{state['options']}: name another folder, or the same ones"
            )
        self.head.load_state_dict(state["head"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.done = state["done"]


def summary(judged: list[Judged]) -> dict[str, Any]:
    """Loss per query and agreement per step."""
    agreed, counted = (np.sum([getattr(x, y) for x in judged], 0) for y in ("agreed", "counted"))
    loss = sum(x.loss for x in judged) / float(counted[0])
    return {"loss": round(loss, 4), "agreement": (agreed / counted).round(4).tolist()}


def train(
    trainer: Trainer,
    examples: Examples,
    parts: tuple[np.ndarray, np.ndarray],
    draft_id: Tensor,
    folder: Path,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Run the updates that are left; state and a line of the log every so often.

    parts: sequences to train on, and to validate with.
    """
    options = trainer.options
    source = batches(examples, parts[0], draft_id, options.queries, options.seed, trainer.done)
    recent: list[Judged] = []
    start = time.monotonic()
    while trainer.done < options.steps:
        recent.append(trainer.update(next(source)))
        if trainer.done % options.every and trainer.done != options.steps:
            continue
        held = in_order(examples, parts[1], draft_id, options.queries)
        seconds = time.monotonic() - start
        seen = sum(x.counted[0] for x in recent)
        line = {"step": trainer.done, "training": summary(recent), "held": trainer.judge(held)}
        line["tokens_per_second"] = round(seen / seconds)
        trainer.save(folder)
        with (folder / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        report(line)
        recent, start = [], time.monotonic()

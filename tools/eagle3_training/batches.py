"""From shards to batches of like lengths, the same for the same seed and number.

Targets are the target's most probable tokens, as draft ids; what the draft vocabulary lacks is left
out, and the rest sums to 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eagle3_training.shards import Example, Shard, read_index
from smartprof.errors import InputError

SAMPLE = 200  # sequences that a statistic is taken over
POOL = 32  # batches whose sequences are sorted by length together


@dataclass(frozen=True, eq=False)
class Batch:
    """B sequences, padded.

    tokens: int64 [B, T + 1]. features: [B, T, 3 * hidden]. entry: int64 [B, A], the place of each
    query. length: int64 [B], answer tokens. top_id: int64 [B, A, K], draft ids, -1 for none;
    top: float32 [B, A, K], their probabilities. best: int64 [B, A], the target's most probable
    token as a draft id, -1 where the draft vocabulary lacks it.
    """

    tokens: Tensor
    features: Tensor
    entry: Tensor
    length: Tensor
    top_id: Tensor
    top: Tensor
    best: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(**{x: getattr(self, x).to(device) for x in self.__dataclass_fields__})

    def valid(self, step: int) -> Tensor:
        """bool [B, A]: queries whose proposal at this step is judged."""
        query = torch.arange(self.entry.shape[1], device=self.entry.device)
        return query + step < self.length[:, None]

    def shifted(self, x: Tensor, step: int) -> Tensor:
        """x [B, A, ...] as query a is judged by it at a step: that of a + step, zeros behind."""
        return x if step == 0 else torch.cat([x[:, step:], torch.zeros_like(x[:, :step])], 1)


class Examples:
    """All sequences of some folders."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Every shard is checked against its sum."""
        entries = [(x, y) for x in folders for y in read_index(x)]
        self._shards = [Shard(x / y.file, y) for x, y in entries]
        self.digest = hashlib.sha256(" ".join(x.sha256 for _, x in entries).encode()).hexdigest()
        if not self._shards:
            raise InputError(
                f"{', '.join(map(str, folders))}: expected training data, found no shard: make "
                "them with `data`"
            )
        self.index = [(x, y) for x, z in enumerate(self._shards) for y in range(len(z.total))]
        self.answers = np.concatenate([np.subtract(x.total, x.prompt) for x in self._shards])
        self.longest = max(max(x.total) for x in self._shards)

    def __getitem__(self, number: int) -> Example:
        shard, place = self.index[number]
        return self._shards[shard][place]

    def counts(self, vocab: int) -> np.ndarray:
        """float64 [vocab]: how often the target would choose each token, over all answers."""
        total = torch.zeros(vocab, dtype=torch.float64)
        for shard in self._shards:
            for example in shard.examples():
                weight = example.top_logprob.double().exp().flatten()
                total.index_add_(0, example.top_id.long().flatten(), weight)
        return total.numpy()

    def spread(self) -> Tensor:
        """float32 [3 * hidden]: root mean square of the features where answers are, of a sample."""
        some = [self[x] for x in range(0, len(self.index), -(-len(self.index) // SAMPLE))]
        return torch.cat([x.features[x.prompt :].float() for x in some]).square().mean(0).sqrt()


def draft_tokens(counts: np.ndarray, size: int) -> Tensor:
    """int64 [size], ascending: the tokens that are chosen most often."""
    order = np.argsort(-counts, kind="stable")[:size]
    return torch.from_numpy(np.sort(order))


def split(count: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the sequences to train on and of those to validate with."""
    order = np.random.default_rng(seed).permutation(count)
    held = max(1, int(share * count))
    return order[held:], order[:held]


def batches(
    examples: Examples, chosen: np.ndarray, draft_id: Tensor, queries: int, seed: int, start: int
) -> Iterator[Batch]:
    """Batches from number `start` on, epoch after epoch; about `queries` answer tokens each.

    draft_id: int64 [vocab], the draft id of each token or -1.
    """
    number, epoch = 0, 0
    while True:
        parts = _epoch(examples.answers, chosen, queries, np.random.default_rng((seed, epoch)))
        for part in parts[max(0, start - number) :]:
            yield collate([examples[x] for x in part], draft_id)
        number, epoch = number + len(parts), epoch + 1


def in_order(
    examples: Examples, chosen: np.ndarray, draft_id: Tensor, queries: int
) -> Iterator[Batch]:
    """Every chosen sequence once."""
    for part in _epoch(examples.answers, chosen, queries, np.random.default_rng(0)):
        yield collate([examples[x] for x in part], draft_id)


def _epoch(
    answers: np.ndarray, chosen: np.ndarray, queries: int, source: np.random.Generator
) -> list[np.ndarray]:
    """Numbers of each batch of one epoch: neighbours in length, batches in any order."""
    order = source.permutation(chosen)
    pool = max(1, int(POOL * queries / max(1.0, float(answers.mean()))))
    parts = []
    for first in range(0, len(order), pool):
        numbers = order[first : first + pool]
        numbers = numbers[np.argsort(answers[numbers], kind="stable")]
        ends = np.flatnonzero(np.diff(answers[numbers].cumsum() // queries)) + 1
        parts += np.split(numbers, ends)
    return [parts[x] for x in source.permutation(len(parts))]


def collate(examples: Sequence[Example], draft_id: Tensor) -> Batch:
    """Pad some sequences to the longest."""
    width = max(len(x.tokens) for x in examples)
    asked = max(len(x.top_id) for x in examples)
    first = examples[0]
    count, best = len(examples), first.top_id.shape[1]
    tokens = torch.zeros(count, width, dtype=torch.int64)
    features = first.features.new_zeros(count, width - 1, first.features.shape[1])
    entry = torch.zeros(count, asked, dtype=torch.int64)
    top_id = torch.full((count, asked, best), -1)
    top = torch.zeros(count, asked, best)
    for row, example in enumerate(examples):
        tokens[row, : len(example.tokens)] = example.tokens
        features[row, : len(example.features)] = example.features
        entry[row] = (example.prompt - 2 + torch.arange(asked)).clamp(max=width - 2)
        answers = len(example.top_id)
        top_id[row, :answers] = draft_id[example.top_id.long()]
        top[row, :answers] = example.top_logprob.float().exp()
    known = top.masked_fill(top_id < 0, 0.0)
    total = known.sum(-1, keepdim=True).clamp(min=1e-6)
    length = torch.tensor([len(x.top_id) for x in examples])
    return Batch(tokens, features, entry, length, top_id, known / total, top_id[..., 0])

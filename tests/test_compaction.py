"""After any history of rounds the cache holds what a fresh prefill of the committed text would."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from smartprof.decode.target import Target
from smartprof.models.grouping import AttentionCosts, CallCosts
from smartprof.models.inputs import InputLayout
from smartprof.models.shapes import named_shape
from smartprof.models.transformer import Transformer
from smartprof.models.weights import random_weights
from smartprof.policies.base import NO_NODES
from smartprof.trees.forest import Children, Forest
from smartprof.trees.packed import PackedTrees, accept, pack

TINY = named_shape("tiny-llama")
CAPACITY = 160
TAPS = (0, 1)
TOLERANCE = 5e-4
PAIRS = AttentionCosts(alone=CallCosts(1e9, 1.0, 1.0), together=CallCosts(0.0, 1.0, 1.0))


@pytest.fixture(params=["shared", "pairs"])
def model(request: pytest.FixtureRequest) -> Transformer:
    made = Transformer(TINY, random_weights(TINY, 3, torch.float32, "cpu"))
    group = TINY.heads // TINY.kv_heads
    made.layout = InputLayout(group, costs=PAIRS if request.param == "pairs" else None)
    return made


def _random_trees(rng: np.random.Generator, texts: list[list[int]]) -> PackedTrees:
    """Trees of up to three layers and very different sizes."""
    forest = Forest.roots(np.array([x[-1] for x in texts]))
    for _ in range(3):
        nodes = rng.permutation(forest.frontier)[: rng.integers(1, 9)]
        parents = np.repeat(nodes, rng.integers(0, 4, len(nodes))).astype(np.int32)
        tokens = rng.permutation(TINY.vocab)[: len(parents)].astype(np.int64)
        forest = forest.extend(nodes, Children(parents, tokens, np.full(len(parents), 0.2)))
    return pack(forest, np.arange(len(texts), forest.size))


def _random_choice(rng: np.random.Generator, trees: PackedTrees) -> NDArray[np.int64]:
    """A target's own tokens that follow random branches of the trees."""
    choice = rng.integers(0, TINY.vocab, len(trees.token))
    for node in range(len(trees.token)):
        below = np.flatnonzero(trees.parent == node)
        if below.size and rng.random() < 0.8:
            choice[node] = trees.token[rng.choice(below)]
    return choice


def _round(rng: np.random.Generator, target: Target, texts: list[list[int]]) -> int:
    """Verify and keep one random tree per request; returns how many nodes were accepted."""
    trees = _random_trees(rng, texts)
    lengths = np.array([len(x) for x in texts])
    target.verify(trees, lengths, len(trees.token) + int(rng.integers(0, 4)))
    accepted = accept(trees, _random_choice(rng, trees))
    target.keep(trees, accepted, lengths)
    for text, path, bonus in zip(texts, accepted.paths, accepted.bonus, strict=True):
        text += [*trees.token[path].tolist(), int(bonus)]
    return int(accepted.lengths.sum())


def _refill(rng: np.random.Generator, target: Target, texts: list[list[int]]) -> None:
    """The first request ends, the last takes its row, and a new one comes in behind."""
    last = len(texts) - 1
    if last:
        target.cache.move_row(last, 0, len(texts[last]))
    texts[0] = texts[last]
    texts[last] = rng.integers(0, TINY.vocab, rng.integers(2, 40)).tolist()
    target.prefill(last, texts[last])


def _played(model: Transformer, batch: int, seed: int) -> tuple[Target, list[list[int]], int]:
    rng = np.random.default_rng(seed)
    texts = [rng.integers(0, TINY.vocab, rng.integers(1, 40)).tolist() for _ in range(batch)]
    target = Target(model, batch, CAPACITY, TAPS)
    for row, text in enumerate(texts):
        target.prefill(row, text)
    accepted = 0
    for _ in range(3):
        accepted += _round(rng, target, texts)
        _refill(rng, target, texts)
        accepted += _round(rng, target, texts)
    return target, texts, accepted


def _differences(target: Target, texts: list[list[int]]) -> tuple[float, float]:
    """Largest difference of next logits and of features from those of a fresh prefill."""
    fresh = Target(target.model, len(texts), CAPACITY, TAPS)
    for row, text in enumerate(texts):
        fresh.prefill(row, text)
    roots = pack(Forest.roots(np.array([x[-1] for x in texts])), NO_NODES)
    lengths = np.array([len(x) for x in texts])
    logits = (target.scores(roots, lengths) - fresh.scores(roots, lengths)).abs().max()
    features = [
        (target.cache.features[x : x + y - 1] - fresh.cache.features[x : x + y - 1]).abs().max()
        for x, y in zip(np.arange(len(texts)) * target.cache.columns, lengths, strict=True)
        if y > 1
    ]
    return float(logits), float(max(features))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8])
def test_logits_and_features_equal_those_of_a_fresh_prefill(
    model: Transformer, batch: int, seed: int
) -> None:
    target, texts, accepted = _played(model, batch, seed)
    assert accepted > 0
    logits, features = _differences(target, texts)
    assert logits < TOLERANCE
    assert features < TOLERANCE


def test_a_cache_that_keeps_the_wrong_entries_would_be_noticed(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: nothing is compacted."""
    monkeypatch.setattr(Target, "keep", lambda *_: None)
    target, texts, _ = _played(model, 4, 0)
    assert min(_differences(target, texts)) > TOLERANCE

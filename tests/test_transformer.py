from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from smartprof.decode.target import Target, _tree_tokens
from smartprof.models import transformer
from smartprof.models.inputs import packed_input
from smartprof.models.transformer import Transformer
from smartprof.models.weights import load_weights
from smartprof.trees.forest import Children, Forest
from smartprof.trees.packed import PackedTrees, pack
from tests.default_model import default_model_dir
from tests.families import FAMILIES, families_table, write_family

TOLERANCE = 5e-4
CPU = torch.device("cpu")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(
    params=[(x.label, y) for x in FAMILIES for y in DEVICES],
    ids=lambda x: f"{x[0]}-{x[1]}".replace(" ", "-"),
)
def tiny(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Transformer]:
    label, device = request.param
    family = next(x for x in FAMILIES if x.label == label)
    reference = write_family(family, tmp_path)
    return reference, Transformer(*load_weights(tmp_path, torch.float32, device))


@pytest.fixture(scope="module")
def default() -> tuple[Any, Transformer]:
    from transformers import AutoModelForCausalLM

    folder = default_model_dir()
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return reference, Transformer(*load_weights(folder, torch.float32, CPU))


def _random_trees(rng: np.random.Generator, roots: list[int], vocab: int, size: int) -> Forest:
    forest = Forest.roots(np.array(roots))
    for _ in range(3):
        nodes = rng.permutation(forest.frontier)[:4]
        parents = np.repeat(nodes, rng.integers(0, size + 1, len(nodes)))
        tokens = np.concatenate(
            [rng.permutation(vocab)[: np.sum(parents == x)] for x in nodes] or [np.array([])]
        ).astype(np.int64)
        forest = forest.extend(nodes, Children(parents, tokens, np.full(len(parents), 0.1)))
    return forest


def _reference_row(
    reference: Any, prompt: list[int], trees: PackedTrees, row: int
) -> NDArray[np.float32]:
    """Logits after every node of one request: each node's path is fed as plain text."""
    rows = []
    for node in np.flatnonzero(trees.request == row):
        path = []
        while node >= 0:
            path.append(int(trees.token[node]))
            node = int(trees.parent[node])
        text = prompt[:-1] + path[::-1]
        with torch.no_grad():
            rows.append(reference(torch.tensor([text])).logits[0, -1].numpy())
    return np.stack(rows)


def _check_ragged_trees(reference: Any, model: Transformer, lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    vocab = model.shape.vocab
    prompts = [rng.integers(0, vocab, x).tolist() for x in lengths]
    target = Target(model, len(prompts), 200)
    for row, prompt in enumerate(prompts):
        target.prefill(row, prompt)
    forest = _random_trees(rng, [x[-1] for x in prompts], vocab, 3)
    trees = pack(forest, np.arange(len(prompts), forest.size))
    logits = target.scores(trees, np.array(lengths)).cpu().numpy()
    for row, prompt in enumerate(prompts):
        expected = _reference_row(reference, prompt, trees, row)
        np.testing.assert_allclose(logits[trees.request == row], expected, atol=TOLERANCE)


def test_plain_logits_agree_with_transformers(tiny: tuple[Any, Transformer]) -> None:
    reference, model = tiny
    prompt = np.random.default_rng(0).integers(0, 97, 70).tolist()
    target = Target(model, 1, 100)
    target.prefill(0, prompt)
    trees = pack(Forest.roots(np.array(prompt[-1:])), np.array([], np.int64))
    with torch.no_grad():
        expected = reference(torch.tensor([prompt])).logits[0, -1]
    logits = target.scores(trees, np.array([len(prompt)]))[0].cpu()
    np.testing.assert_allclose(logits.numpy(), expected.numpy(), atol=TOLERANCE)


@pytest.mark.parametrize("lengths", [[9], [5, 41, 1, 17]], ids=["one", "ragged"])
def test_tree_logits_agree_with_transformers_on_every_path(
    tiny: tuple[Any, Transformer], lengths: list[int]
) -> None:
    for seed in range(3):
        _check_ragged_trees(*tiny, lengths, seed)


@pytest.mark.parametrize("lengths", [[30], [12, 64, 3]], ids=["one", "ragged"])
def test_the_default_model_agrees_with_transformers(
    default: tuple[Any, Transformer], lengths: list[int]
) -> None:
    _check_ragged_trees(*default, lengths, 0)


@pytest.mark.parametrize("prompts", [[[3, 1, 4, 1, 5]], [[3, 1, 4, 1, 5], [9, 2]]])
@pytest.mark.parametrize("grown", [False, True], ids=["roots", "trees"])
def test_padding_tokens_change_no_result(
    tiny: tuple[Any, Transformer], prompts: list[list[int]], grown: bool
) -> None:
    _, model = tiny
    lengths = np.array([len(x) for x in prompts])
    choices = []
    for spare in (0, 7):
        target = Target(model, len(prompts), 64)
        for row, prompt in enumerate(prompts):
            target.prefill(row, prompt)
        roots = [x[-1] for x in prompts]
        forest = _random_trees(np.random.default_rng(5), roots, 97, 3 if grown else 0)
        trees = pack(forest, np.arange(len(prompts), forest.size))
        choices.append(target.verify(trees, lengths, len(trees.token) + spare))
    np.testing.assert_array_equal(*choices)


def test_prefill_in_chunks_equals_prefill_at_once(tiny: tuple[Any, Transformer]) -> None:
    _, model = tiny
    prompt = np.random.default_rng(2).integers(0, 97, 60).tolist()
    trees = pack(Forest.roots(np.array(prompt[-1:])), np.array([], np.int64))
    results = []
    for chunk in (7, 256):
        target = Target(model, 1, 64)
        target.prefill(0, prompt, chunk=chunk)
        results.append(target.scores(trees, np.array([len(prompt)])).cpu().numpy())
    np.testing.assert_allclose(*results, atol=1e-5)


@pytest.mark.parametrize("size", [0, 3], ids=["roots", "trees"])
def test_results_hold_while_a_pass_of_as_many_tokens_runs(
    tiny: tuple[Any, Transformer], size: int
) -> None:
    _, model = tiny
    target = Target(model, 1, 64)
    target.prefill(0, [3, 1, 4, 1, 5])
    forest = _random_trees(np.random.default_rng(5), [5], 97, size)
    trees = pack(forest, np.arange(1, forest.size))
    batch = packed_input(
        target.cache, _tree_tokens(trees, np.array([4])), model.layout, len(trees.token)
    )
    hidden = model.forward(batch, target.cache)
    logits = model.logits(hidden)
    kept = hidden.clone(), logits.clone()
    other = replace(batch, tokens=(batch.tokens + 1) % 97)
    assert not torch.equal(model.logits(model.forward(other, target.cache)), logits)
    assert torch.equal(hidden, kept[0])
    assert torch.equal(logits, kept[1])


def test_a_pass_is_the_same_without_a_workspace(tiny: tuple[Any, Transformer]) -> None:
    _, model = tiny
    prompt = np.random.default_rng(3).integers(0, 97, 9).tolist()
    trees = pack(Forest.roots(np.array(prompt[-1:])), np.array([], np.int64))
    results = []
    for most in (32, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transformer, "MOST_SPACED", most)
            target = Target(model, 1, 64)
            target.prefill(0, prompt)
            results.append(target.scores(trees, np.array([len(prompt)])).cpu().numpy())
    np.testing.assert_allclose(*results, atol=1e-6)


def test_a_wrong_position_would_be_noticed(tiny: tuple[Any, Transformer]) -> None:
    """Negative control: shifting every position by one must break the agreement."""
    reference, model = tiny
    model._rotations = model._rotations.new_ones((300, model.shape.head_dim // 2))
    with pytest.raises(AssertionError):
        _check_ragged_trees(reference, model, [40], 0)


def test_a_window_that_is_ignored_would_be_noticed(tmp_path: Path) -> None:
    """Negative control: the prompts of these tests are longer than the window."""
    family = next(x for x in FAMILIES if "sliding_window" in x.changes)
    reference = write_family(family, tmp_path)
    shape, weights = load_weights(tmp_path, torch.float32, "cpu")
    with pytest.raises(AssertionError):
        _check_ragged_trees(reference, Transformer(replace(shape, window=None), weights), [40], 0)


def test_the_families_of_the_readme_are_those_tested_here() -> None:
    readme = Path(__file__).parents[1] / "README.md"
    assert families_table() in readme.read_text(encoding="utf-8"), families_table()

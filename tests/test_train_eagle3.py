"""`tools/train_eagle3.py` from instructions to a head that drafts, on a tiny random target."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from eagle3_training import loss
from eagle3_training.batches import Batch, Examples, batches, collate, draft_tokens, in_order, split
from eagle3_training.checkpoint import loaded_head, new_head, save_head
from eagle3_training.instructions import OWN, read_seeds
from eagle3_training.loss import losses
from eagle3_training.material import answers, prose, source
from eagle3_training.shards import (
    INDEX_FILE,
    Example,
    Shard,
    ShardFolder,
    answer_texts,
    read_index,
    read_settings,
)
from eagle3_training.train import Trainer, TrainOptions
from eagle3_training.train import train as fit
from safetensors.torch import load_file, save_file
from train_eagle3 import app
from typer.testing import CliRunner

from smartprof.decode.prompts import bundled_prompts
from smartprof.decode.target import Target
from smartprof.device import resolve_device
from smartprof.drafters.confidence import Confidence
from smartprof.drafters.eagle3 import Eagle3Drafter
from smartprof.drafters.table import choose_drafter, drafter_maker
from smartprof.errors import InputError, SmartprofError
from smartprof.models.loading import load_model
from smartprof.models.weights import resolve_target
from smartprof.report.summary import loops
from smartprof.trees.forest import Children, Forest
from tests.tiny_model import write_tiny_model

VOCAB = 258
STEPS, ROLLOUT = 200, 4


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(x) for x in words])
    if result.exception is not None:
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_model(tmp_path_factory.mktemp("train") / "target", layers=7)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= 8.0  # a target that is sure of itself can be memorised
    save_file(weights, folder / "model.safetensors")
    return folder


def make(target: Path, folder: Path, tokens: int, *more: object) -> None:
    common = ("data", "--target", target, "--out", folder, "--gpu", "cpu", "--batch", 8)
    run(*common, "--answer", 24, "--shard", 10, "--tokens", tokens, *more)


@pytest.fixture(scope="module")
def data(target: Path) -> Path:
    folder = target.parent / "data"
    make(target, folder, 400)
    make(target, folder, 800)  # goes on
    return folder


def options(**changes: Any) -> TrainOptions:
    fast = {"rate": 1e-2, "matrix_rate": 3e-2}
    values = {"steps": STEPS, "data": "", "queries": 256, "rollout": ROLLOUT, "every": 50}
    return TrainOptions(**(values | fast | changes))


def begun(target: Path, data: Path, chosen: TrainOptions) -> tuple[Trainer, Examples, Any]:
    examples = Examples([data])
    draft = draft_tokens(examples.counts(VOCAB), VOCAB)
    source, positions = resolve_target(str(target)), examples.longest + ROLLOUT
    head = new_head(source, draft, examples.spread(), positions, seed=0)
    return Trainer(head, chosen), examples, draft


@pytest.mark.parametrize(("dtype", "error"), [("float32", 0.005), ("bfloat16", 0.2)])
def test_features_are_those_of_the_answer(
    target: Path, tmp_path: Path, dtype: str, error: float
) -> None:
    make(target, tmp_path / "data", 300, "--dtype", dtype)
    model = load_model(str(target), resolve_device("cpu")).transformer
    for example in ShardFolder(tmp_path / "data", read_settings(tmp_path / "data")).examples():
        tokens = example.tokens.tolist()
        watched = Target(model, 1, len(tokens) + 1, taps=(2, 3, 4))
        watched.prefill(0, [*tokens, 0])
        expected = watched.cache.features[: len(tokens) - 1]
        distance = (example.features.float() - expected).norm(dim=1) / expected.norm(dim=1)
        assert distance.max() < error


def test_answers_are_what_the_target_says(data: Path) -> None:
    assert sum(x.answer_tokens for x in read_index(data)) >= 800
    tops, seen = [], []
    for example in ShardFolder(data, read_settings(data)).examples():
        answer = example.tokens[example.prompt :].tolist()
        assert not loops(answer)
        tops += [x == y for x, y in zip(answer, example.top_id[:, 0].tolist(), strict=True)]
        seen.append(tuple(example.tokens.tolist()))
    assert len(set(seen)) == len(seen)
    assert 0.6 < np.mean(tops) < 1  # two in three answers are greedy


def test_a_damaged_shard_is_refused(data: Path, tmp_path: Path) -> None:
    entry = read_index(data)[0]
    changed = bytearray((data / entry.file).read_bytes())
    changed[-1] ^= 1
    (tmp_path / entry.file).write_bytes(changed)
    with pytest.raises(InputError, match=INDEX_FILE):
        Shard(tmp_path / entry.file, entry)


def test_data_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    ShardFolder(tmp_path, {"digest": "a"})
    ShardFolder(tmp_path, {"digest": "a"})
    with pytest.raises(InputError, match="made with digest = a, asked for is b"):
        ShardFolder(tmp_path, {"digest": "b"})


def test_instructions_are_drawn_by_number_and_differ_from_the_bundled_prompts() -> None:
    seeds = read_seeds(["Some passage of prose."], ["def f():\n    return 1"])
    drawn = [seeds.draw(x, 5) for x in range(3000)]
    assert drawn == [seeds.draw(x, 5) for x in range(3000)]
    assert {x.kind for x in drawn} == set(seeds.kinds)
    assert all("{" not in x.text for x in drawn if x.kind != "source")
    assert [x.complete for x in drawn] == [x.kind != OWN for x in drawn]
    known = [_grams(x.text) for x in bundled_prompts()]
    common = set().union(*known) & set().union(*(_grams(x.text) for x in drawn))
    assert common == set()


def _grams(text: str, size: int = 7) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[x : x + size]) for x in range(len(words) - size + 1)}


def test_material_is_prose_and_functions(tmp_path: Path) -> None:
    sentence = "A passage that is long enough to say something about the world and its people. "
    (tmp_path / "a.html").write_text(f"<h1>Menu</h1><p>{sentence * 3}</p><li>one</li><p>short</p>")
    (tmp_path / "b.txt").write_text(f"{sentence * 3}\n\n1 | 2 | 3 | 4\n")
    (tmp_path / "c.py").write_text("def f(x):\n    a = 1\n    b = 2\n    c = 3\n    return x\n")
    (tmp_path / "d.py").write_text("not python at all (")
    assert prose([tmp_path]) == [(sentence * 3).strip()]
    assert source([tmp_path]) == ["def f(x):\n    a = 1\n    b = 2\n    c = 3\n    return x"]


def test_answers_that_ended_become_material(data: Path) -> None:
    written = [x for x in ShardFolder(data, read_settings(data)).examples()]
    last = Counter(int(x.tokens[-1]) for x in written)
    some = last.most_common(1)[0][0]
    found = list(answer_texts(data, {some}))
    assert len(found) == last[some]
    assert all(x[-1] == some for x in found)
    text = "word " * 30
    assert answers([text, " ".join(["too", "short"]), text]) == [text.strip()]


def test_a_shard_is_never_written_over(tmp_path: Path) -> None:
    folder, example = ShardFolder(tmp_path, {}), _example()
    for _ in range(3):
        folder.add([example], 0)
    lines = (tmp_path / INDEX_FILE).read_text().splitlines(keepends=True)
    (tmp_path / INDEX_FILE).write_text("".join(lines[1:]))
    again = ShardFolder(tmp_path, {})
    assert again.add([example], 1).file not in {x.file for x in folder.entries}
    assert len(list(again.examples())) == 3


def _example() -> Example:
    tops = torch.zeros(2, 3, dtype=torch.int32), torch.zeros(2, 3, dtype=torch.float16)
    return Example(torch.arange(5, dtype=torch.int32), 3, torch.zeros(4, 6), *tops)


def test_batches_hold_every_sequence_once_an_epoch(data: Path) -> None:
    examples = Examples([data])
    chosen, held = split(len(examples.answers), 0.1, 0)
    assert sorted([*chosen, *held]) == list(range(len(examples.answers)))
    draft_id = torch.arange(VOCAB)
    wanted = sorted(examples.answers[chosen].tolist())
    source, found = batches(examples, chosen, draft_id, 128, 0, 0), []
    while len(found) < len(chosen):
        batch = next(source)
        assert batch.length.sum() <= 128 + 24
        found += batch.length.tolist()
    assert sorted(found) == wanted
    first = [next(batches(examples, chosen, draft_id, 128, 0, x)) for x in (0, 3)]
    again = batches(examples, chosen, draft_id, 128, 0, 0)
    assert torch.equal(next(again).tokens, first[0].tokens)
    assert torch.equal([next(again) for _ in range(3)][-1].tokens, first[1].tokens)


def test_the_rollout_is_what_the_decoder_drafts(target: Path, data: Path) -> None:
    trainer, examples, draft = begun(target, data, options(steps=5))
    head = data.parent / "five"
    head.mkdir()
    fit(trainer, examples, split(len(examples.answers), 0.1, 0), draft, head, print)
    save_head(trainer.head, draft, resolve_target(str(target)).shape, head)
    model = load_model(str(target), resolve_device("cpu"))
    source, spread = resolve_target(str(target)), examples.spread()
    rounded, _ = loaded_head(source, head, spread, examples.longest + ROLLOUT)
    example = examples[0]
    exact = Target(model.transformer, 1, 512, taps=(2, 3, 4))
    exact.prefill(0, [*example.tokens.tolist(), 0])
    batch = collate([example], torch.arange(VOCAB))
    features = exact.cache.features[None, : len(example.tokens) - 1]
    batch = Batch(**(vars(batch) | {"features": features}))
    with torch.no_grad():
        expected = [rounded.logits(x)[0].softmax(-1) for x in rounded(batch, ROLLOUT)]
    make = drafter_maker(choose_drafter(f"eagle3:{head}", str(target)), model)
    for query in (0, 5, len(example.top_id) - ROLLOUT):
        drafted = _forced(model, make(), example.tokens.tolist(), example.prompt + query)
        for step, (tokens, probability) in enumerate(drafted):
            wanted = expected[step][query, tokens].double().numpy()
            np.testing.assert_allclose(probability, wanted, atol=2e-5)


class Unchanged(Confidence):
    def calibrated(self, parent: Any, probability: Any) -> Any:
        return probability


def _forced(model: Any, drafter: Any, tokens: list[int], known: int) -> list[tuple[Any, Any]]:
    """Children that the decoder's drafter proposes along the true tokens behind `known` ones."""
    assert isinstance(drafter, Eagle3Drafter)
    drafter.confidence, drafter.least = Unchanged(), 0.0
    target = Target(model.transformer, 1, 512, drafter.taps)
    drafter.attach(target.cache)
    target.prefill(0, tokens[:known])
    drafter.admit(0, tokens[:known])
    forest, found = Forest.roots(np.array([tokens[known - 1]])), []
    for step in range(ROLLOUT):
        children = drafter.expand(forest, np.array([step]))
        found.append((children.token, children.conditional))
        forced = Children.checked(np.array([step]), np.array([tokens[known + step]]), np.ones(1))
        forest = forest.extend(np.array([step]), forced)
    return found


def test_a_step_is_judged_by_the_tokens_behind_it(target: Path, data: Path) -> None:
    trainer, examples, _ = begun(target, data, options())
    batch, head = collate([examples[0], examples[1]], torch.arange(VOCAB)), trainer.head
    head.lm_head.weight.data = torch.linalg.qr(torch.randn(VOCAB, 64)).Q * 50
    right = [head.lm_head.weight[batch.shifted(batch.best, x)] for x in range(3)]
    judged = losses(head, right, batch, 0.8, torch.float32)[1]
    assert judged.counted == tuple(int((batch.length - x).sum()) for x in range(3))
    assert min(np.divide(judged.agreed, judged.counted)) > 0.9
    late = [right[1], right[0], right[2]]
    assert losses(head, late, batch, 0.8, torch.float32)[1].agreed[0] < judged.agreed[0]


def test_the_loss_and_its_gradients_are_those_of_the_whole_softmax(
    target: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "BLOCK", 7)
    trainer, examples, _ = begun(target, data, options())
    some = torch.arange(VOCAB)
    some[::3] = -1  # tokens that this head cannot propose
    batch, head = collate([examples[x] for x in range(3)], some), trainer.head
    found, _ = losses(head, head(batch, ROLLOUT), batch, 0.8, torch.float32)
    found.backward()
    gradients = {x: y.grad.clone() for x, y in head.named_parameters() if y.grad is not None}
    head.zero_grad()
    total = torch.zeros(())
    for step, output in enumerate(head(batch, ROLLOUT)):
        valid = batch.valid(step)
        wanted, share = (batch.shifted(x, step)[valid] for x in (batch.top_id, batch.top))
        log_prob = head.logits(output[valid]).log_softmax(-1).gather(1, wanted.clamp(min=0))
        total = total - 0.8**step * (share * log_prob).sum()
    expected = total / batch.length.sum() / sum(0.8**x for x in range(ROLLOUT))
    expected.backward()
    torch.testing.assert_close(found, expected)
    assert len(gradients) == len(list(head.parameters()))
    for name, value in head.named_parameters():
        torch.testing.assert_close(gradients[name], value.grad, rtol=1e-3, atol=1e-6)


def test_training_memorises_stops_and_goes_on_to_the_same_weights(target: Path, data: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(line: dict[str, Any]) -> None:
        if line["step"] == 100:
            raise Stopped

    lines: list[dict[str, Any]] = []
    heads = {}
    for name in ("straight", "stopped"):
        folder = data.parent / name
        folder.mkdir()
        if name == "stopped":
            trainer, examples, _ = begun(target, data, options())
            parts = split(len(examples.answers), 0.1, 0)
            with pytest.raises(Stopped):
                fit(trainer, examples, parts, torch.arange(VOCAB), folder, stop)
        trainer, examples, _ = begun(target, data, options())
        trainer.resume(folder)
        assert trainer.done == (100 if name == "stopped" else 0)
        parts = split(len(examples.answers), 0.1, 0)
        if name == "straight":
            chance = trainer.judge(in_order(examples, parts[0], torch.arange(VOCAB), 256))
        fit(trainer, examples, parts, torch.arange(VOCAB), folder, lines.append)
        heads[name] = trainer.head.state_dict()
    for name, value in heads["straight"].items():
        assert torch.equal(value, heads["stopped"][name]), name
    assert max(chance["agreement"]) < 0.25
    assert min(lines[-1]["training"]["agreement"]) > 0.9
    with pytest.raises(InputError, match="the same options"):
        begun(target, data, options(seed=1))[0].resume(data.parent / "straight")


def test_a_head_comes_out_and_drafts(target: Path, data: Path) -> None:
    out = data.parent / "cli"
    common = ("train", "--target", target, "--data", data, "--out", out, "--gpu", "cpu")
    said = run(*common, "--steps", 6, "--every", 3, "--queries", 200, "--draft-vocab", 100)
    assert said.count('"held"') == 2
    config = json.loads((out / "head" / "config.json").read_text())
    assert config["draft_vocab_size"] == 100
    figures = out / "figures.json"
    run("evaluate", "--target", target, "--head", out / "head", "--gpu", "cpu", "--per-category",
        1, "--tokens", 12, "--split", "development", "--out", figures)  # fmt: skip
    found = json.loads(figures.read_text())
    for by_category in found.values():
        assert len(by_category) == 7
        total = by_category["all"]
        assert total["by_depth"] == sorted(total["by_depth"], reverse=True)
        assert abs(sum(total["by_depth"]) - total["accepted_per_round"]) < 0.01
        assert abs(sum(total["rank_shares"]) - 1) < 0.01
    again = data.parent / "again"
    run(*common[:6], again, *common[7:], "--steps", 2, "--from", out / "head")
    assert (again / "head" / "model.safetensors").stat().st_size > 0
    with pytest.raises(SmartprofError, match="exists"):
        run("evaluate", "--target", target, "--head", out / "head", "--out", figures)


def test_a_training_does_not_go_on_with_other_data(target: Path, data: Path) -> None:
    out, other = data.parent / "grown-run", data.parent / "grown"
    shutil.copytree(data, other)
    common = ("train", "--target", target, "--data", other, "--out", out, "--gpu", "cpu")
    run(*common, "--steps", 2, "--queries", 200)
    run(*common, "--steps", 2, "--queries", 200)
    make(target, other, 1200)
    with pytest.raises(InputError, match="same options and data"):
        run(*common, "--steps", 2, "--queries", 200)


@pytest.mark.parametrize(
    "changes", [{"norm_before_residual": True}, {"intermediate_size": 64}], ids=["parts", "sizes"]
)
def test_a_head_of_another_make_is_not_gone_on_from(
    target: Path, data: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    trainer, examples, draft = begun(target, data, options())
    source = resolve_target(str(target))
    save_head(trainer.head, draft, source.shape, tmp_path)
    loaded_head(source, tmp_path, examples.spread(), 600)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(InputError, match="leave out --from"):
        loaded_head(source, tmp_path, examples.spread(), 600)


def test_lengths_that_no_prompt_has_are_refused(target: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prompts of 2 to 5 tokens, got none"):
        make(target, tmp_path, 100, "--longest", 5)

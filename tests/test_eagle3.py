"""EAGLE-3 heads against a plain implementation, and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from smartprof.decode.target import Target
from smartprof.drafters.eagle3 import Eagle3Drafter
from smartprof.errors import ModelError
from smartprof.models.eagle3 import Eagle3Head, load_eagle3
from smartprof.models.eagle3_config import eagle3_shape, is_eagle3
from smartprof.models.shapes import named_shape
from smartprof.models.transformer import Transformer
from smartprof.models.weights import random_weights
from smartprof.trees.forest import Forest
from tests.tiny_head import DRAFT_VOCAB, SIZES, TARGET, head_tensors, write_head

TOLERANCE = 2e-4
STEPS = 4


@pytest.fixture(scope="module")
def target_weights() -> dict[str, Tensor]:
    weights = random_weights(TARGET, 5, torch.float32, "cpu")
    return {x: y if x.endswith("norm.weight") else y * 6 for x, y in weights.items()}


@pytest.fixture(scope="module")
def model(target_weights: dict[str, Tensor]) -> Transformer:
    return Transformer(TARGET, dict(target_weights))


def load(folder: Path, model: Transformer) -> Eagle3Head:
    config = json.loads((folder / "config.json").read_text())
    shape = eagle3_shape(config, folder.name, TARGET)
    return load_eagle3(folder, shape, model.embedding, TARGET.vocab)


class PlainHead:
    """EAGLE-3 without a cache, a batch or a tree: everything anew for each token."""

    def __init__(
        self, tensors: dict[str, Tensor], embedding: Tensor, residual_normed: bool
    ) -> None:
        self.tensors, self.embedding, self.residual_normed = tensors, embedding, residual_normed

    def rollout(self, features: Tensor, tokens: list[int], steps: int) -> list[tuple[int, float]]:
        """Most probable target tokens after `tokens` [n], each fed back, with their probabilities.

        features: [n - 1, 3 * target hidden] of all tokens but the last.
        """
        hidden = list(features @ self.tensors["fc.weight"].T)
        following = tokens[1:]
        found = []
        for _ in range(steps):
            outputs = self._layer(torch.stack(hidden), torch.tensor(following))
            logits = self._norm(outputs[-1], "norm.weight") @ self.tensors["lm_head.weight"].T
            best = int(logits.argmax())
            token = best + int(self.tensors["d2t"][best])
            found.append((token, float(logits.softmax(-1)[best])))
            hidden.append(outputs[-1])
            following = [*following, token]
        return found

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return x * (x.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt() * self.tensors[name]

    def _layer(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        token = self._norm(self.embedding[tokens], "midlayer.input_layernorm.weight")
        normed = self._norm(hidden, "midlayer.hidden_norm.weight")
        joined = torch.cat([token, normed], 1)
        size, length = SIZES["head_dim"], len(tokens)
        query, key, value = (
            (joined @ self.tensors[f"midlayer.self_attn.{x}_proj.weight"].T)
            .view(length, -1, size)
            .transpose(0, 1)
            for x in "qkv"
        )
        query, key = self._rotate(query), self._rotate(key)
        key, value = key.repeat_interleave(2, 0), value.repeat_interleave(2, 0)
        scores = query @ key.transpose(1, 2) / size**0.5
        scores = scores.masked_fill(~torch.ones(length, length).tril().bool(), float("-inf"))
        mixed = (scores.softmax(-1) @ value).transpose(0, 1).reshape(length, -1)
        x = normed if self.residual_normed else hidden
        x = x + mixed @ self.tensors["midlayer.self_attn.o_proj.weight"].T
        inner = self._norm(x, "midlayer.post_attention_layernorm.weight")
        gate = F.silu(inner @ self.tensors["midlayer.mlp.gate_proj.weight"].T)
        up = inner @ self.tensors["midlayer.mlp.up_proj.weight"].T
        return x + (gate * up) @ self.tensors["midlayer.mlp.down_proj.weight"].T

    def _rotate(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        frequency = SIZES["rope_theta"] ** (-torch.arange(half) / half)
        angle = torch.arange(x.shape[1])[:, None] * frequency
        first, second = x[..., :half], x[..., half:]
        turned = (
            first * angle.cos() - second * angle.sin(),
            second * angle.cos() + first * angle.sin(),
        )
        return torch.cat(turned, -1)


def features_of(model: Transformer, tokens: list[int]) -> Tensor:
    """The target's features of all tokens but the last, from a prefill."""
    target = Target(model, 1, 64, (2, 3, 4))
    target.prefill(0, tokens)
    return target.cache.features[: len(tokens) - 1]


def drafted(head: Eagle3Head, model: Transformer, tokens: list[int]) -> list[tuple[int, float]]:
    """The drafter's own greedy chain."""
    drafter = Eagle3Drafter(head)
    drafter.confidence.freeze()
    target = Target(model, 1, 64, drafter.taps)
    drafter.attach(target.cache)
    target.prefill(0, tokens)
    drafter.admit(0, tokens)
    forest, node, found = Forest.roots(np.array(tokens[-1:])), 0, []
    for _ in range(STEPS):
        children = drafter.expand(forest, np.array([node]))
        best = int(children.conditional.argmax())
        found.append((int(children.token[best]), float(children.conditional[best])))
        node = forest.size + best
        forest = forest.extend(np.array([int(children.parent[best])]), children)
    return found


@pytest.mark.parametrize("as_bin", [False, True], ids=["safetensors", "bin"])
@pytest.mark.parametrize("residual_normed", [False, True])
def test_four_steps_equal_a_plain_implementation(
    tmp_path: Path, model: Transformer, residual_normed: bool, as_bin: bool
) -> None:
    folder = write_head(tmp_path, {"norm_before_residual": residual_normed}, as_bin=as_bin)
    head = load(folder, model)
    plain = PlainHead(head_tensors(), model.embedding, residual_normed)
    for seed in range(6):
        tokens = np.random.default_rng(seed).integers(0, TARGET.vocab, 3 + 5 * seed).tolist()
        expected = plain.rollout(features_of(model, tokens), tokens, STEPS)
        found = drafted(head, model, tokens)
        assert [x for x, _ in found] == [x for x, _ in expected]
        # probabilities are capped a little below 1
        np.testing.assert_allclose(
            [x for _, x in found], np.minimum([x for _, x in expected], 0.999), atol=TOLERANCE
        )


def test_a_head_that_feeds_back_features_instead_of_outputs_would_be_noticed(
    tmp_path: Path, model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control for the rollout."""
    head = load(write_head(tmp_path), model)
    plain = PlainHead(head_tensors(), model.embedding, False)
    tokens = np.random.default_rng(1).integers(0, TARGET.vocab, 20).tolist()
    expected = plain.rollout(features_of(model, tokens), tokens, STEPS)
    monkeypatch.setattr(Eagle3Drafter, "_keep", lambda *_: None)
    assert [x for x, _ in drafted(head, model, tokens)] != [x for x, _ in expected]


def test_the_features_are_the_inputs_of_the_layers_that_transformers_shows(
    target_weights: dict[str, Tensor], model: Transformer
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=TARGET.vocab,
        hidden_size=TARGET.hidden,
        intermediate_size=TARGET.intermediate,
        num_hidden_layers=TARGET.layers,
        num_attention_heads=TARGET.heads,
        num_key_value_heads=TARGET.kv_heads,
        rms_norm_eps=TARGET.norm_eps,
        rope_theta=TARGET.rope_theta,
        tie_word_embeddings=True,
    )
    reference = LlamaForCausalLM(config).eval()
    reference.load_state_dict(target_weights, strict=False)
    tokens = np.random.default_rng(0).integers(0, TARGET.vocab, 20).tolist()
    with torch.no_grad():
        states = reference(torch.tensor([tokens]), output_hidden_states=True).hidden_states
    expected = torch.cat([states[x][0, :-1] for x in (2, 3, 4)], 1)
    np.testing.assert_allclose(features_of(model, tokens), expected, atol=TOLERANCE)


def test_the_other_spellings_of_a_checkpoint_load_the_same_head(
    tmp_path: Path, model: Transformer
) -> None:
    nested = {
        "architectures": ["Eagle3Speculator"],
        "transformer_layer_config": {k: v for k, v in SIZES.items() if k != "architectures"},
        "eagle_aux_hidden_state_layer_ids": [2, 3, 4],
    }
    renamed = {x.replace("midlayer.", "layers.0."): y for x, y in head_tensors().items()}
    renamed["embed_tokens.weight"] = model.embedding.clone()
    heads = [load(write_head(tmp_path / "plain"), model)]
    heads.append(load(write_head(tmp_path / "other", nested, renamed), model))
    for one, other in zip(*map(weights_of, heads), strict=True):
        assert torch.equal(one, other)
    tokens = np.random.default_rng(2).integers(0, TARGET.vocab, 12).tolist()
    one, other = (drafted(x, model, tokens) for x in heads)
    assert [x for x, _ in one] == [x for x, _ in other]
    # Not bit by bit: where a tensor begins in memory may change the order of its sums.
    assert [x for _, x in one] == pytest.approx([x for _, x in other], rel=1e-5)


def weights_of(head: Eagle3Head) -> list[Tensor]:
    """Every weight of a head; those that are laid out anew, by products with the identity."""
    products = [x(torch.eye(x.size[1])) for x in (head.fc, *head.block.linears, head.head)]
    return [
        *products,
        head.norm,
        head.token_norm,
        head.hidden_norm,
        head.embedding,
        head.target_ids,
    ]


class Payload:
    """What a hostile file would hold: code that runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('this must never run')",)


def test_a_pickled_object_is_refused_in_one_line_and_not_run(
    tmp_path: Path, model: Transformer
) -> None:
    folder = write_head(tmp_path, as_bin=True)
    torch.save({"fc.weight": Payload()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="expected tensors alone") as refused:
        load(folder, model)
    assert "\n" not in str(refused.value)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ModelError, match="expected tensors alone"):
        load(folder, model)


def _without(name: str) -> dict[str, Tensor]:
    return {x: y for x, y in head_tensors().items() if x != name}


REFUSALS: list[tuple[str, dict[str, Any], dict[str, Tensor]]] = [
    ("expected a head for the 256 tokens", {"vocab_size": 300}, {}),
    ("of one layer", {"num_hidden_layers": 2}, {}),
    ("norm_before_fc is not supported", {"norm_before_fc": True}, {}),
    ("3 different layers", {"eagle_aux_hidden_state_layer_ids": [1, 2]}, {}),
    ("3 different layers", {"eagle_aux_hidden_state_layer_ids": [[1], [2], [3]]}, {}),
    ("transformer_layer_config must be a table", {"transformer_layer_config": "llama"}, {}),
    ("transformer_layer_config must be a table", {"transformer_layer_config": [1]}, {}),
    ("eagle_config must be a table", {"eagle_config": 3}, {}),
    ("draft_vocab_size must be a positive integer", {"draft_vocab_size": "many"}, {}),
    ("target_hidden_size must be a positive integer", {"target_hidden_size": [8]}, {}),
    ("3 different layers", {"eagle_aux_hidden_state_layer_ids": [1, 2, 9]}, {}),
    ("tensor fc.weight is missing", {}, _without("fc.weight")),
    ("tensor extra is not supported", {}, head_tensors() | {"extra": torch.zeros(1)}),
    ("tensor norm.weight has size", {}, head_tensors() | {"norm.weight": torch.zeros(3)}),
    ("tensor d2t is missing", {}, _without("d2t")),
    ("d2t leads outside", {}, head_tensors() | {"d2t": torch.full((DRAFT_VOCAB,), 200)}),
    ("one target token to several", {}, head_tensors() | {"d2t": -torch.arange(DRAFT_VOCAB)}),
    ("its t2d knows 90", {}, head_tensors() | {"t2d": torch.ones(90, dtype=torch.bool)}),
]


@pytest.mark.parametrize(("message", "changes", "tensors"), REFUSALS)
def test_a_head_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path,
    model: Transformer,
    message: str,
    changes: dict[str, Any],
    tensors: dict[str, Tensor],
) -> None:
    folder = write_head(tmp_path, changes, tensors or None)
    with pytest.raises(ModelError, match=message) as refused:
        load(folder, model)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("length", [1, 2, 9])
def test_a_seated_request_has_as_many_entries_as_an_admitted_one(
    tmp_path: Path, model: Transformer, length: int
) -> None:
    drafter = Eagle3Drafter(load(write_head(tmp_path), model))
    target = Target(model, 2, 64, drafter.taps)
    drafter.attach(target.cache)
    tokens = list(range(length))
    target.prefill(0, tokens)
    drafter.admit(0, tokens)
    drafter.seat(1, tokens)
    admitted, seated = (drafter._rows[x] for x in range(2))
    assert (seated.entries, seated.noted) == (admitted.entries, admitted.noted)


def test_a_language_model_is_not_taken_for_a_head() -> None:
    assert is_eagle3(SIZES)
    assert is_eagle3({"architectures": ["Eagle3Speculator"]})
    assert not is_eagle3({"architectures": 3})
    assert not is_eagle3({"architectures": ["LlamaForCausalLM"], "vocab_size": 3})


def test_a_target_of_two_layers_has_no_three_features() -> None:
    with pytest.raises(ModelError, match="3 different layers"):
        eagle3_shape(SIZES, "head", named_shape("tiny-llama"))

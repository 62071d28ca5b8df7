"""Weights read by us against the weights that transformers wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from smartprof.errors import DeviceError, ModelError
from smartprof.models import weights as loading
from smartprof.models.shapes import NAMED_SHAPES, shape_from_config
from smartprof.models.weights import (
    expected_tensors,
    load_weights,
    random_weights,
    read_shape,
    resolve_target,
)
from tests.default_model import default_model_dir
from tests.tiny_gguf import write_tiny_gguf

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
FLOAT32 = torch.float32
KEY = "model.layers.1.self_attn.k_proj.weight"


def build(kind: str, tied: bool = False) -> Any:
    torch.manual_seed(3)
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied))
    return Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=tied))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory as transformers writes it: llama, one file, embeddings not tied."""
    build("llama").save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder: Path, change: dict[str, torch.Tensor | None]) -> None:
    path = folder / "model.safetensors"
    tensors = {**load_file(path), **change}
    save_file({name: value for name, value in tensors.items() if value is not None}, path)


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_weights(folder, FLOAT32, "cpu")
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shard_size", ["1GB", "20KB"])
def test_every_tensor_equals_what_transformers_saved(
    tmp_path: Path, kind: str, tied: bool, shard_size: str
) -> None:
    model = build(kind, tied)
    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    shards = len(list(tmp_path.glob("*.safetensors")))
    assert (shards > 1) == (shard_size == "20KB")
    shape, ours = load_weights(tmp_path, FLOAT32, "cpu")
    theirs = dict(model.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert shape.parameters == sum(tensor.numel() for tensor in ours.values())
    assert shape == shape_from_config(model.config.to_dict(), tmp_path.name) == read_shape(tmp_path)


def test_expected_tensors_are_in_the_order_of_the_forward_pass() -> None:
    model = build("qwen2")
    shape = shape_from_config(model.config.to_dict() | {"architectures": ["Qwen2ForCausalLM"]}, "q")
    sizes = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    assert expected_tensors(shape) == sizes
    names = list(expected_tensors(shape))
    assert (names[0], names[-1]) == ("model.embed_tokens.weight", "lm_head.weight")


def test_loaded_tensors_have_the_dtype_asked_for_and_memory_of_their_own(folder: Path) -> None:
    _, ours = load_weights(folder, torch.bfloat16, "cpu")
    assert {tensor.dtype for tensor in ours.values()} == {torch.bfloat16}
    _, first = load_weights(folder, FLOAT32, "cpu")
    first[KEY].zero_()
    _, second = load_weights(folder, FLOAT32, "cpu")
    assert second[KEY].abs().max() > 0
    assert all(tensor.data_ptr() % 64 == 0 for tensor in second.values())


def test_a_second_copy_of_tied_embeddings_and_old_rotary_tables_are_left_out(
    tmp_path: Path,
) -> None:
    model = build("llama", tied=True)
    model.save_pretrained(tmp_path)
    rewrite(
        tmp_path,
        {
            "lm_head.weight": model.lm_head.weight.detach().clone(),
            "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
        },
    )
    _, ours = load_weights(tmp_path, FLOAT32, "cpu")
    assert ours.keys() == dict(model.named_parameters()).keys()


def test_a_missing_tensor_is_named(folder: Path) -> None:
    rewrite(folder, {KEY: None})
    assert f"tensor {KEY} missing" in refused(folder)


def test_several_missing_tensors_are_counted(folder: Path) -> None:
    rewrite(folder, {KEY: None, "lm_head.weight": None, "model.norm.weight": None})
    assert f"tensor {KEY} and 2 more missing" in refused(folder)


def test_an_unexpected_tensor_is_named(folder: Path) -> None:
    rewrite(folder, {"model.layers.3.mlp.up_proj.weight": torch.zeros(2)})
    message = refused(folder)
    assert "unexpected tensor model.layers.3.mlp.up_proj.weight" in message
    assert "model.safetensors" in message


def test_a_tensor_of_another_size_is_named_with_both_sizes(folder: Path) -> None:
    rewrite(folder, {KEY: torch.zeros(16, 31)})
    message = refused(folder)
    assert f"tensor {KEY} has size (16, 31), the config asks for (16, 32)" in message


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.999])
def test_a_weights_file_cut_short_is_refused(folder: Path, keep: float) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    assert "model.safetensors is damaged or cut short" in refused(folder)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    build("llama").save_pretrained(tmp_path, max_shard_size="20KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    assert shard.name in refused(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../model.safetensors"}}',
        '{"weight_map": {"a": "/etc/model.safetensors"}}',
        "[",
        "[]",
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, text: str) -> None:
    build("llama").save_pretrained(tmp_path, max_shard_size="20KB")
    (tmp_path / "model.safetensors.index.json").write_text(text)
    assert "index.json" in refused(tmp_path)


def test_a_directory_without_weights_says_what_was_expected(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "expected model.safetensors or model.safetensors.index.json" in refused(folder)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}"])
def test_a_missing_or_damaged_config_is_one_line(folder: Path, text: str | None) -> None:
    (folder / "config.json").unlink()
    if text is not None:
        (folder / "config.json").write_text(text)
    with pytest.raises(ModelError) as caught:
        load_weights(folder, FLOAT32, "cpu")
    assert "\n" not in str(caught.value)


def test_random_weights_depend_on_the_seed_alone_and_have_the_right_spread() -> None:
    shape = NAMED_SHAPES["tiny-llama"]
    first, again = (random_weights(shape, 1, FLOAT32, "cpu") for _ in range(2))
    other = random_weights(shape, 2, FLOAT32, "cpu")
    assert {name: tuple(tensor.shape) for name, tensor in first.items()} == expected_tensors(shape)
    assert all(torch.equal(first[name], again[name]) for name in first)
    embedding = first["model.embed_tokens.weight"]
    assert not torch.equal(embedding, other["model.embed_tokens.weight"])
    assert embedding.std().item() == pytest.approx(0.02, rel=0.03)
    assert abs(embedding.mean().item()) < 5 * 0.02 / embedding.numel() ** 0.5
    assert torch.equal(first["model.norm.weight"], torch.ones(shape.hidden))
    assert sum(tensor.numel() for tensor in first.values()) == shape.parameters


def test_random_weights_that_do_not_fit_are_refused_before_any_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "free_bytes", lambda _: 10 * 2**30)
    with pytest.raises(DeviceError, match=r"needs 29\.9 GiB, cpu has 10\.0 GiB free"):
        random_weights(NAMED_SHAPES["Llama-3.1-8B"], 0, FLOAT32, "cpu")


def test_targets_are_found_by_name_directory_file_and_shape(folder: Path, tmp_path: Path) -> None:
    gguf = tmp_path / "tiny.gguf"
    write_tiny_gguf(gguf)
    assert resolve_target().path == default_model_dir()
    assert resolve_target().shape.digest == NAMED_SHAPES["SmolLM2-135M"].digest
    for path in (folder, gguf):
        target = resolve_target(str(path))
        assert target.path == path
        assert target.load(FLOAT32, "cpu").keys() == expected_tensors(target.shape).keys()
    named = resolve_target("shape:tiny-llama")
    assert (named.path, named.shape) == (None, NAMED_SHAPES["tiny-llama"])
    weights = named.load(FLOAT32, "cpu", seed=5)
    same = load_weights(named.shape, FLOAT32, "cpu")[1]
    assert weights.keys() == same.keys()


@pytest.mark.parametrize("name", ["nothing/there/at-all", "shape:none", "README.md", ""])
def test_a_target_that_is_nothing_known_is_one_line(name: str) -> None:
    with pytest.raises(ModelError, match="expected") as caught:
        resolve_target(name)
    assert "\n" not in str(caught.value)


def test_an_index_that_lists_fewer_files_than_the_model_needs_is_noticed(tmp_path: Path) -> None:
    build("llama").save_pretrained(tmp_path, max_shard_size="20KB")
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    kept = sorted(set(content["weight_map"].values()))[0]
    content["weight_map"] = {n: f for n, f in content["weight_map"].items() if f == kept}
    index.write_text(json.dumps(content))
    assert "missing" in refused(tmp_path)


def test_the_default_model_has_the_named_shape() -> None:
    shape, ours = load_weights(default_model_dir(), FLOAT32, "cpu")
    assert shape.digest == NAMED_SHAPES["SmolLM2-135M"].digest
    assert sum(tensor.numel() for tensor in ours.values()) == shape.parameters == 134_515_008

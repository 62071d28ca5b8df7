"""GGUF files against their own contents and against transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from smartprof.errors import ModelError
from smartprof.models.fetch import SMOLLM2, _fetched_gguf
from smartprof.models.gguf_files import GgufFile, unpermute_rotary_rows
from smartprof.models.tokenizer import Tokenizer
from smartprof.models.weights import load_weights
from tests.default_model import default_model_dir
from tests.tiny_gguf import HEADS, TOKENS, permute_rows_one_by_one, write_tiny_gguf


def weights_according_to_transformers(path: Path) -> dict[str, torch.Tensor]:
    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    loaded = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)
    return loaded["tensors"]


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_unpermuting_undoes_a_permutation_done_row_by_row(heads: int) -> None:
    for size in ((heads * 8, 5), (heads * 8,)):
        values = np.random.default_rng(heads).standard_normal(size)
        stored = permute_rows_one_by_one(values, heads)
        assert not np.array_equal(stored, values)
        assert np.array_equal(unpermute_rotary_rows(stored, heads), values)


def test_an_unquantised_file_gives_back_the_weights_it_was_written_from(tmp_path: Path) -> None:
    written = write_tiny_gguf(tmp_path / "tiny.gguf")
    read = dict(GgufFile(tmp_path / "tiny.gguf").tensors())
    assert read.keys() == written.keys()
    for name, values in read.items():
        assert values.dtype == np.float32
        assert np.array_equal(values, written[name]), name


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_1"])
def test_weights_equal_those_that_transformers_reads(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_gguf(path, quantisation=GGMLQuantizationType[kind])
    theirs = weights_according_to_transformers(path)
    shape, ours = load_weights(path, torch.float32, "cpu")
    assert shape.tied_embeddings
    assert theirs.keys() == ours.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def test_the_comparison_with_transformers_notices_a_forgotten_permutation(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    written = write_tiny_gguf(path)
    name = "model.layers.0.self_attn.q_proj.weight"
    wrong = torch.from_numpy(permute_rows_one_by_one(written[name], HEADS))
    assert not torch.equal(wrong, weights_according_to_transformers(path)[name])


def test_numbers_stored_in_32_bits_come_back_as_the_decimals_that_were_meant(
    tmp_path: Path,
) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    shape = GgufFile(tmp_path / "tiny.gguf").shape
    assert (shape.norm_eps, shape.rope_theta, shape.vocab) == (1e-5, 10_000.0, len(TOKENS))


def test_tokenizer_of_the_file_gives_the_ids_of_transformers(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_gguf(path)
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    ours = Tokenizer(path)
    for text in ("hello world", "  hell\n\nwow ", "<|im_start|>hello<|im_end|>", "é漢🙂"):
        assert ours.encode(text) == theirs.encode(text)
        assert ours.decode(ours.encode(text)) == text
    assert ours.eos_ids == {2}


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.999])
def test_a_file_cut_short_is_refused_in_one_line(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_gguf(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ModelError, match="not a whole GGUF file") as caught:
        load_weights(path, torch.float32, "cpu")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_gguf_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "text.gguf"
    path.write_text("this is not a model\n" * 100)
    with pytest.raises(ModelError, match="not a whole GGUF file"):
        GgufFile(path)


def test_another_architecture_is_named_in_the_refusal(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf", architecture="mamba")
    with pytest.raises(ModelError, match="expected architecture llama, got 'mamba'"):
        GgufFile(tmp_path / "tiny.gguf")


@pytest.mark.long
def test_weights_of_the_default_model_equal_those_that_transformers_reads(tmp_path: Path) -> None:
    gguf = _fetched_gguf(SMOLLM2, tmp_path, None)
    theirs = weights_according_to_transformers(gguf)
    _, ours = load_weights(default_model_dir(), torch.float32, "cpu")
    assert theirs.keys() == ours.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name

"""Models that are not supported are refused in one line that says why, wherever they are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from smartprof.device import resolve_device
from smartprof.drafters.table import choose_drafter, drafter_maker
from smartprof.errors import DeviceError, ModelError, SmartprofError
from smartprof.models.eagle3_config import eagle3_shape
from smartprof.models.loading import load_model
from smartprof.models.unsupported import holds_head
from smartprof.models.weights import resolve_target
from tests.test_cli import refused
from tests.tiny_head import SIZES, TARGET, write_head
from tests.tiny_model import write_tiny_model

# What public configs have, as far as it tells what the model is.
LLAVA = {
    "architectures": ["LlavaForConditionalGeneration"],
    "model_type": "llava",
    "image_token_index": 32000,
    "text_config": {"model_type": "llama", "vocab_size": 32064},
    "vision_config": {"model_type": "clip_vision_model", "num_hidden_layers": 24},
}
FIRST_LLAVA = {
    "architectures": ["LlavaLlamaForCausalLM"],
    "model_type": "llava",
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "num_hidden_layers": 32,
}
QWEN2_VL = {
    "architectures": ["Qwen2VLForConditionalGeneration"],
    "model_type": "qwen2_vl",
    "num_hidden_layers": 28,
    "vision_config": {"depth": 32},
    "vision_token_id": 151654,
}
OLD_HEAD = {x: y for x, y in SIZES.items() if x != "draft_vocab_size"} | {
    "architectures": ["LlamaForCausalLM"]
}


def one_line(error: pytest.ExceptionInfo[SmartprofError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def old_tensors() -> dict[str, torch.Tensor]:
    """Names and sizes of an EAGLE-1 or EAGLE-2 head: one hidden state and an embedding fused."""
    hidden = SIZES["hidden_size"]
    return {
        "embed_tokens.weight": torch.zeros(TARGET.vocab, hidden),
        "fc.bias": torch.zeros(hidden),
        "fc.weight": torch.zeros(hidden, 2 * hidden),
        "layers.0.self_attn.q_proj.weight": torch.zeros(4 * SIZES["head_dim"], hidden),
        "layers.0.post_attention_layernorm.weight": torch.ones(hidden),
    }


def config_folder(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("config", [LLAVA, FIRST_LLAVA, QWEN2_VL], ids=lambda x: x["model_type"])
def test_multimodal_targets_are_called_so(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as caught:
        resolve_target(str(config_folder(tmp_path, config)))
    assert "multimodal models are not supported" in one_line(caught)
    assert tmp_path.name in one_line(caught)


def test_a_text_model_with_an_empty_encoder_field_is_not_multimodal(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text()) | {"vision_config": None}
    assert resolve_target(str(config_folder(folder, config))).shape.layers == 2


@pytest.mark.parametrize("as_bin", [False, True], ids=["safetensors", "bin"])
@pytest.mark.parametrize("spelling", ["{}", "eagle3:{}", "hybrid:{}"])
def test_older_eagle_heads_are_called_so_however_they_are_named(
    tmp_path: Path, spelling: str, as_bin: bool
) -> None:
    model = str(write_tiny_model(tmp_path / "model", layers=7))
    target = load_model(model, resolve_device("cpu"))
    folder = write_head(tmp_path / "head", {}, old_tensors(), as_bin)
    config_folder(folder, OLD_HEAD | {"vocab_size": target.source.shape.vocab})
    with pytest.raises(ModelError) as caught:
        drafter_maker(choose_drafter(spelling.format(folder), model), target)
    assert "EAGLE-1 and EAGLE-2 heads are not supported" in one_line(caught)


@pytest.mark.parametrize("as_bin", [False, True], ids=["safetensors", "bin"])
@pytest.mark.parametrize("spelling", ["{}", "hybrid:{}", "eagle3:{}"])
def test_an_older_head_by_its_hub_id_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str, as_bin: bool
) -> None:
    """Only what was asked for is there, as after a download."""
    model = str(write_tiny_model(tmp_path / "model", layers=7))
    target = load_model(model, resolve_device("cpu"))
    head = write_head(tmp_path / "head", {}, old_tensors(), as_bin)
    config_folder(head, OLD_HEAD | {"vocab_size": target.source.shape.vocab})
    cache = tmp_path / "cache"
    cache.mkdir()

    def download(_: str, patterns: Sequence[str]) -> Path:
        for path in (y for x in patterns for y in head.glob(x)):
            shutil.copy(path, cache)
        return cache

    monkeypatch.setattr("smartprof.drafters.table.resolve_hub", download)
    with pytest.raises(ModelError) as caught:
        drafter_maker(choose_drafter(spelling.format("someone/head"), model), target)
    assert "EAGLE-1 and EAGLE-2 heads are not supported" in one_line(caught)


def test_an_older_head_is_no_target_and_no_language_model_that_drafts(tmp_path: Path) -> None:
    folder = config_folder(write_head(tmp_path, {}, old_tensors()), OLD_HEAD)
    with pytest.raises(ModelError) as caught:
        resolve_target(str(folder))
    assert "EAGLE-1 and EAGLE-2 heads are not supported" in one_line(caught)
    with pytest.raises(SmartprofError, match="expected lm"):
        choose_drafter(f"lm:{folder}", "shape:tiny-llama")


def test_a_head_for_a_multimodal_target_is_called_so(tmp_path: Path) -> None:
    """As those of MSD are: an EAGLE-2 head beside an encoder's settings."""
    with pytest.raises(ModelError) as caught:
        eagle3_shape(OLD_HEAD | {"mm_vision_tower": "clip"}, "msd", TARGET)
    assert "multimodal models are not supported" in one_line(caught)


def test_only_what_fuses_states_is_a_head(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model", layers=1)
    assert not holds_head(model, {"num_hidden_layers": 1})
    assert holds_head(write_head(tmp_path / "head"), {})
    shards = tmp_path / "shards"
    shards.mkdir()
    save_file({"a": torch.zeros(1)}, shards / "model-1.safetensors")
    assert not holds_head(shards, {})
    save_file({"fc.weight": torch.zeros(1)}, shards / "model-2.safetensors")
    assert holds_head(shards, {})
    (shards / "model-1.safetensors").write_bytes(b"cut short")
    assert holds_head(shards, {})


def test_tensor_parallelism_is_refused() -> None:
    for devices in ("cuda:0,1", "cuda:0,cuda:1"):
        with pytest.raises(DeviceError) as caught:
            resolve_device(devices)
        assert "tensor parallelism is not supported" in one_line(caught)


def test_calibrate_refuses_a_multimodal_target_before_it_writes(tmp_path: Path) -> None:
    given = config_folder(tmp_path, QWEN2_VL)
    out = tmp_path / "p.json"
    line = refused(tmp_path, "calibrate", "--gpu", "cpu", "--target", given, "--out", out)
    assert "multimodal models are not supported" in line

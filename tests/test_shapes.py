"""Model shapes against transformers' own counts and config files."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PretrainedConfig

from smartprof.errors import ModelError
from smartprof.models.shapes import (
    NAMED_SHAPES,
    ModelShape,
    RopeScaling,
    named_shape,
    shape_from_config,
)

TINY = NAMED_SHAPES["tiny-llama"]


def _family(shape: ModelShape) -> str:
    if shape.qk_norm:
        return "Qwen3"
    if shape.name.startswith("Mistral"):
        return "Mistral"
    return "Qwen2" if shape.qkv_bias else "Llama"


def config_dict(shape: ModelShape) -> dict[str, Any]:
    """A `config.json` of that shape in the older spelling that most published models use."""
    scaling = shape.rope_scaling
    return {
        "architectures": [f"{_family(shape)}ForCausalLM"],
        "model_type": _family(shape).lower(),
        "sliding_window": shape.window,
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.intermediate,
        "vocab_size": shape.vocab,
        "tie_word_embeddings": shape.tied_embeddings,
        "rope_theta": shape.rope_theta,
        "rope_scaling": scaling
        and {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context,
        },
        "rms_norm_eps": shape.norm_eps,
        "max_position_embeddings": shape.max_context,
        "hidden_act": "silu",
    }


def transformers_config(shape: ModelShape) -> PretrainedConfig:
    fields = config_dict(shape)
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


@pytest.mark.parametrize("name", NAMED_SHAPES)
def test_parameters_are_counted_as_transformers_counts_them(name: str) -> None:
    shape = NAMED_SHAPES[name]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(transformers_config(shape))
    assert shape.parameters == model.num_parameters()
    assert shape.weight_bytes(2) == 2 * model.num_parameters()


@pytest.mark.parametrize(
    "changes", [{}, {"kv_heads": 4}, {"intermediate": 200, "layers": 3}, {"head_dim": 32}]
)
def test_operations_are_those_that_torch_counts(changes: dict[str, Any]) -> None:
    shape = replace(TINY, **changes)
    config = transformers_config(shape)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config)
    tokens = 12
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, tokens, dtype=torch.long))
    # Eager attention multiplies whole matrices: every token meets all the others.
    assert counter.get_total_flops() == tokens * shape.flops_per_token(tokens)


@pytest.mark.parametrize("name", NAMED_SHAPES)
def test_cache_bytes_are_those_of_the_keys_and_values(name: str) -> None:
    shape = NAMED_SHAPES[name]
    keys = torch.empty(shape.layers, shape.kv_heads, 1, shape.head_dim, device="meta")
    assert shape.kv_bytes_per_token(4) == 2 * keys.numel() * keys.element_size()


@pytest.mark.parametrize("name", NAMED_SHAPES)
def test_a_config_written_by_transformers_gives_the_shape_back(name: str) -> None:
    shape = NAMED_SHAPES[name]
    written = transformers_config(shape).to_dict()
    assert shape_from_config(written, name) == shape


@pytest.mark.parametrize("name", NAMED_SHAPES)
def test_a_config_in_the_older_spelling_gives_the_same_shape(name: str) -> None:
    assert shape_from_config(config_dict(NAMED_SHAPES[name]), name) == NAMED_SHAPES[name]


def test_absent_fields_mean_what_they_mean_to_transformers() -> None:
    fields = config_dict(TINY)
    for name in ("num_key_value_heads", "head_dim", "rope_theta", "rope_scaling", "hidden_act"):
        del fields[name]
    shape = shape_from_config(fields, "x")
    theirs = LlamaConfig(**fields)
    assert shape.kv_heads == theirs.num_key_value_heads == TINY.heads
    assert shape.head_dim == theirs.head_dim
    assert shape.rope_theta == theirs.rope_parameters["rope_theta"]


def test_the_digest_depends_on_everything_but_the_name() -> None:
    scaled = replace(TINY, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 8192))
    assert replace(scaled, name="other").digest == scaled.digest
    changes: dict[str, Any] = {
        "layers": 3,
        "hidden": 128,
        "heads": 8,
        "kv_heads": 1,
        "head_dim": 32,
        "intermediate": 64,
        "vocab": 300,
        "tied_embeddings": False,
        "qkv_bias": True,
        "rope_theta": 1.0,
        "rope_scaling": RopeScaling(4.0, 1.0, 4.0, 8192),
        "norm_eps": 1e-6,
        "max_context": 64,
        "qk_norm": True,
        "out_bias": True,
        "window": 32,
    }
    changed = [replace(scaled, **{field: value}) for field, value in changes.items()]
    digests = {shape.digest for shape in [scaled, TINY, *changed]}
    assert len(digests) == len(changed) + 2
    assert all(len(digest) == 16 for digest in digests)


def test_the_digest_of_the_default_model_never_changes_because_profiles_hold_it() -> None:
    assert NAMED_SHAPES["SmolLM2-135M"].digest == "b04185f87ddbd8c6"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architectures": ["MixtralForCausalLM"]}, "architecture ['MixtralForCausalLM']"),
        ({"architectures": None}, "architecture None"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope type 'yarn'"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "rope type 'linear'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 4.0}}, "low_freq_factor"),
        ({"rope_scaling": "llama3"}, "rope_scaling must be a table"),
        ({"partial_rotary_factor": 0.5}, "partial rotary"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"hidden_act": "gelu"}, "hidden_act silu, got 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"hidden_size": None}, "hidden_size must be a positive integer, got None"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a positive integer, got 0"),
        ({"num_attention_heads": "4"}, "num_attention_heads must be a positive integer, got '4'"),
        ({"vocab_size": True}, "vocab_size must be a positive integer, got True"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be a positive number, got nan"),
        ({"num_key_value_heads": 3}, "multiple of kv_heads"),
        ({"head_dim": 15}, "head_dim must be even"),
    ],
)
def test_a_config_that_cannot_be_run_is_refused_in_one_line(
    change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelError) as caught:
        shape_from_config({**config_dict(TINY), **change}, "some-model")
    message = str(caught.value)
    assert said in message
    assert "some-model" in message
    assert "\n" not in message


QWEN = {**config_dict(NAMED_SHAPES["Qwen2-7B"]), "sliding_window": 1000}  # 28 layers
MISTRAL = {**config_dict(NAMED_SHAPES["Mistral-7B-v0.3"])}


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({**QWEN, "use_sliding_window": False}, None),
        ({**QWEN, "use_sliding_window": True, "max_window_layers": 0}, 1000),
        ({**QWEN, "use_sliding_window": True, "max_window_layers": 28}, None),
        ({**QWEN, "use_sliding_window": True}, None),
        ({**QWEN, "use_sliding_window": True, "layer_types": ["sliding_attention"] * 28}, 1000),
        ({**MISTRAL, "sliding_window": None}, None),
        ({**MISTRAL, "sliding_window": 1000}, 1000),
        ({**MISTRAL, "sliding_window": 32_768}, None),
        ({x: y for x, y in MISTRAL.items() if x != "sliding_window"}, 4096),
        ({**config_dict(TINY), "sliding_window": 64}, None),
    ],
)
def test_a_window_is_in_force_where_transformers_has_it_in_force(
    fields: dict[str, Any], window: int | None
) -> None:
    assert shape_from_config(fields, "x").window == window
    kinds = AutoConfig.for_model(**fields).to_dict().get("layer_types")
    if kinds is not None and fields.get("sliding_window") is not None:
        assert (set(kinds) == {"sliding_attention"}) == (window is not None)


@pytest.mark.parametrize("fields", [{"max_window_layers": x} for x in ("20", -1, 2.5, [3], True)])
@pytest.mark.parametrize("start", [QWEN, {**QWEN, "architectures": ["Qwen3ForCausalLM"]}])
def test_a_number_of_window_layers_of_another_kind_is_one_line(
    start: dict[str, Any], fields: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match=r"^x: max_window_layers must be a positive") as refused:
        shape_from_config({**start, "use_sliding_window": True, **fields}, "x")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("types", [3, "sliding_attention", {"0": "sliding_attention"}, True])
def test_layer_types_of_another_kind_are_one_line(types: Any) -> None:
    with pytest.raises(ModelError, match=r"^x: layer_types must be a list"):
        shape_from_config({**MISTRAL, "layer_types": types}, "x")


def test_a_window_in_some_layers_only_is_refused() -> None:
    fields = {**QWEN, "use_sliding_window": True, "max_window_layers": 20}
    with pytest.raises(ModelError, match="x: a sliding window in some layers and not in others"):
        shape_from_config(fields, "x")


@pytest.mark.parametrize(
    ("family", "biases"), [("llama", True), ("qwen3", True), ("mistral", False)]
)
def test_attention_biases_are_read_where_the_family_has_the_option(
    family: str, biases: bool
) -> None:
    fields = {
        **config_dict(TINY),
        "architectures": [f"{family.capitalize()}ForCausalLM"],
        "attention_bias": True,
    }
    shape = shape_from_config(fields, "x")
    assert (shape.qkv_bias, shape.out_bias) == (biases, biases)


def test_an_unknown_shape_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match="unknown model shape 'gpt-5': expected one of SmolLM2"):
        named_shape("gpt-5")


def test_shapes_are_known_without_torch() -> None:
    code = "import sys, smartprof.models.shapes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Reads a llama-architecture GGUF file as if it were a Hugging Face directory.

GGUF (the file format of the ggml project) keeps its own tensor names, block-quantised matrices,
and the rows of the query and key projections in another order; all three are undone here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from smartprof.errors import ModelError
from smartprof.models.shapes import DEFAULT_ROPE_THETA, ModelShape

CONTROL_TOKEN_TYPE = 3
USER_DEFINED_TOKEN_TYPE = 4

TOP_LEVEL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class GgufFile:
    """An open GGUF file of the llama architecture.

    Args:
        path: the file; it stays mapped into memory as long as this object lives.

    Raises:
        ModelError: not a GGUF file, cut short, or of another architecture.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._reader = GGUFReader(path)
        except FileNotFoundError as error:
            raise ModelError(f"{path}: no such GGUF file") from error
        except (ValueError, IndexError, KeyError, OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: not a whole GGUF file ({_one_line(error)})") from error
        architecture = self._field("general.architecture")
        if architecture != "llama":
            raise ModelError(f"{path}: expected architecture llama, got {architecture!r}")
        self.shape = self._read_shape()

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield every tensor as (Hugging Face name, float32 array [out_features, in_features])."""
        row_heads = {"attn_q": self.shape.heads, "attn_k": self.shape.kv_heads}
        for tensor in self._reader.tensors:
            part = tensor.name.split(".")[2] if tensor.name.startswith("blk.") else ""
            try:
                values = np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
            except NotImplementedError as error:
                raise ModelError(
                    f"{self.path}: tensor {tensor.name} has the unsupported "
                    f"quantisation {tensor.tensor_type.name}"
                ) from error
            if part in row_heads:
                values = unpermute_rotary_rows(values, row_heads[part])
            yield self._hugging_face_name(tensor.name), values

    def tokenizer_json(self) -> str:
        """The tokenizer in the format of the `tokenizers` library."""
        kind = (self._field("tokenizer.ggml.model"), self._field("tokenizer.ggml.pre", "default"))
        if kind != ("gpt2", "smollm"):
            raise ModelError(
                f"{self.path}: tokenizer {kind[0]}/{kind[1]} is not supported, expected "
                f"gpt2/smollm: use the model's Hugging Face directory"
            )
        tokens: list[str] = self._field("tokenizer.ggml.tokens")
        merges = [tuple(merge.split(" ")) for merge in self._field("tokenizer.ggml.merges")]
        vocabulary = {token: index for index, token in enumerate(tokens)}
        tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        kinds = self._field("tokenizer.ggml.token_type")
        _add_special_tokens(tokenizer, tokens, kinds)
        return str(tokenizer.to_str())

    def tokenizer_config(self) -> dict[str, Any]:
        """What `tokenizer_config.json` of a Hugging Face directory would say."""
        tokens: list[str] = self._field("tokenizer.ggml.tokens")
        config: dict[str, Any] = {
            "add_bos_token": self._field("tokenizer.ggml.add_bos_token", False),
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": self.shape.max_context,
            "tokenizer_class": "PreTrainedTokenizerFast",
        }
        for role, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
            token_id = self._field(f"tokenizer.ggml.{key}_token_id", None)
            if token_id is not None:
                config[f"{role}_token"] = tokens[token_id]
        template = self._field("tokenizer.chat_template", None)
        if template is not None:
            config["chat_template"] = template
        return config

    def config(self) -> dict[str, Any]:
        """What `config.json` of a Hugging Face directory would say."""
        shape = self.shape
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "attention_bias": False,
            "mlp_bias": False,
            "hidden_act": "silu",
            "num_hidden_layers": shape.layers,
            "hidden_size": shape.hidden,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "intermediate_size": shape.intermediate,
            "vocab_size": shape.vocab,
            "tie_word_embeddings": shape.tied_embeddings,
            "rope_theta": shape.rope_theta,
            "rms_norm_eps": shape.norm_eps,
            "max_position_embeddings": shape.max_context,
            "bos_token_id": self._field("tokenizer.ggml.bos_token_id", None),
            "eos_token_id": self._field("tokenizer.ggml.eos_token_id", None),
            "torch_dtype": "float32",
        }

    def _read_shape(self) -> ModelShape:
        names = {tensor.name for tensor in self._reader.tensors}
        scaling = self._field("llama.rope.scaling.type", "none")
        if scaling != "none" or "rope_freqs.weight" in names:
            raise ModelError(
                f"{self.path}: scaled rotary positions are not supported from GGUF: "
                f"use the model's Hugging Face directory"
            )
        hidden = self._field("llama.embedding_length")
        heads = self._field("llama.attention.head_count")
        theta = self._field("llama.rope.freq_base", DEFAULT_ROPE_THETA)
        return ModelShape(
            name=self.path.stem,
            layers=self._field("llama.block_count"),
            hidden=hidden,
            heads=heads,
            kv_heads=self._field("llama.attention.head_count_kv", heads),
            head_dim=self._field("llama.rope.dimension_count", hidden // heads),
            intermediate=self._field("llama.feed_forward_length"),
            vocab=self._vocabulary_size(),
            tied_embeddings="output.weight" not in names,
            qkv_bias=False,
            rope_theta=_shortest(theta),
            rope_scaling=None,
            norm_eps=_shortest(self._field("llama.attention.layer_norm_rms_epsilon")),
            max_context=self._field("llama.context_length"),
        )

    def _vocabulary_size(self) -> int:
        """Rows of the embedding table; GGUF lists a tensor's fastest axis first."""
        for tensor in self._reader.tensors:
            if tensor.name == "token_embd.weight":
                return int(tensor.shape[1])
        raise ModelError(f"{self.path}: tensor token_embd.weight is missing")

    def _hugging_face_name(self, name: str) -> str:
        if name in TOP_LEVEL_NAMES:
            return TOP_LEVEL_NAMES[name]
        match name.split("."):
            case ["blk", layer, part, "weight"] if part in LAYER_NAMES:
                return f"model.layers.{layer}.{LAYER_NAMES[part]}.weight"
        raise ModelError(f"{self.path}: unexpected tensor {name} in a llama model")

    def _field(self, key: str, *default: Any) -> Any:
        field = self._reader.get_field(key)
        if field is not None:
            return field.contents()
        if default:
            return default[0]
        raise ModelError(f"{self.path}: field {key} is missing")


def unpermute_rotary_rows(values: np.ndarray, heads: int) -> np.ndarray:
    """Bring rows of a query or key projection back into Hugging Face order.

    GGUF rotates neighbouring rows (2j, 2j + 1) of a head, Hugging Face rows (j, j + head_dim / 2).

    Args:
        values: [heads * head_dim, ...] rows in GGUF order.
    """
    rows = values.shape[0]
    pairs = values.reshape(heads, rows // heads // 2, 2, *values.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)


def _add_special_tokens(tokenizer: Tokenizer, tokens: list[str], kinds: list[int]) -> None:
    """Mark control tokens as special; user-defined ones are found in text but not special."""
    control = [t for t, kind in zip(tokens, kinds, strict=True) if kind == CONTROL_TOKEN_TYPE]
    defined = [t for t, kind in zip(tokens, kinds, strict=True) if kind == USER_DEFINED_TOKEN_TYPE]
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in control])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in defined])


def _shortest(value: float) -> float:
    """The decimal that was meant by a number stored in 32 bits: 1e-05, not 9.999999747e-06."""
    return float(str(np.float32(value)))


def _one_line(error: Exception) -> str:
    return json.dumps(str(error))[1:-1]

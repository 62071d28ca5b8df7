"""A tiny Llama directory with random weights and a tokenizer of bytes, as files on disk."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from smartprof.models.shapes import shape_from_config
from smartprof.models.weights import random_weights

MAX_CONTEXT = 512
LOUD = 6.0  # random weights this much larger make outputs vary
BOUNDARIES = ("<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": MAX_CONTEXT,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "vocab_size": 256 + len(BOUNDARIES),
    "eos_token_id": 257,
}


def write_tiny_model(folder: Path, layers: int = 2) -> Path:
    """Write config, weights, tokenizer and chat template into a new folder; returns it."""
    folder.mkdir(parents=True)
    config = CONFIG | {"num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = random_weights(shape_from_config(config, "tiny"), 3, torch.float32, "cpu")
    loud = {x: y if x.endswith("norm.weight") else y * LOUD for x, y in weights.items()}
    save_file(loud, folder / "model.safetensors")
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"chat_template": CHAT_TEMPLATE, "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def byte_tokenizer() -> Tokenizer:
    """One token per byte, and one for each end of a message."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(BOUNDARIES))
    return tokenizer

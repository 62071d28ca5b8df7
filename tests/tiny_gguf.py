"""A made-up llama-architecture GGUF file, small enough to write in every test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from tokenizers import pre_tokenizers

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE = 2, 64, 4, 2, 16, 96
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w"]
TOKENS = [
    *SPECIAL,
    *sorted(pre_tokenizers.ByteLevel.alphabet()),
    *(merge.replace(" ", "") for merge in MERGES),
]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

GGUF_PARTS = {
    "attn_norm": ("input_layernorm", (HIDDEN,)),
    "attn_q": ("self_attn.q_proj", (HEADS * HEAD_DIM, HIDDEN)),
    "attn_k": ("self_attn.k_proj", (KV_HEADS * HEAD_DIM, HIDDEN)),
    "attn_v": ("self_attn.v_proj", (KV_HEADS * HEAD_DIM, HIDDEN)),
    "attn_output": ("self_attn.o_proj", (HIDDEN, HEADS * HEAD_DIM)),
    "ffn_norm": ("post_attention_layernorm", (HIDDEN,)),
    "ffn_gate": ("mlp.gate_proj", (INTERMEDIATE, HIDDEN)),
    "ffn_up": ("mlp.up_proj", (INTERMEDIATE, HIDDEN)),
    "ffn_down": ("mlp.down_proj", (HIDDEN, INTERMEDIATE)),
}


def write_tiny_gguf(
    path: Path,
    seed: int = 0,
    quantisation: GGMLQuantizationType = GGMLQuantizationType.F32,
    architecture: str = "llama",
) -> dict[str, np.ndarray]:
    """Write the file; returns its weights, before quantisation, as Hugging Face would hold them."""
    rng = np.random.default_rng(seed)
    writer = GGUFWriter(str(path), architecture)
    _write_settings(writer)
    weights: dict[str, np.ndarray] = {}

    def add(gguf_name: str, name: str, size: tuple[int, ...], heads: int = 0) -> None:
        values = rng.standard_normal(size).astype(np.float32)
        weights[name] = values
        stored = permute_rows_one_by_one(values, heads) if heads else values
        kind = quantisation if stored.ndim == 2 else GGMLQuantizationType.F32
        if kind == GGMLQuantizationType.F32:
            writer.add_tensor(gguf_name, stored)
        else:
            writer.add_tensor(gguf_name, quantize(stored, kind), raw_dtype=kind)

    add("token_embd.weight", "model.embed_tokens.weight", (len(TOKENS), HIDDEN))
    for layer in range(LAYERS):
        for part, (name, size) in GGUF_PARTS.items():
            heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(part, 0)
            full_name = f"model.layers.{layer}.{name}.weight"
            add(f"blk.{layer}.{part}.weight", full_name, size, heads)
    add("output_norm.weight", "model.norm.weight", (HIDDEN,))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def permute_rows_one_by_one(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows in the order of GGUF: pair j of a head is (row j, row j + half) side by side."""
    size = values.shape[0] // heads
    stored = np.empty_like(values)
    for head in range(heads):
        for j in range(size // 2):
            stored[head * size + 2 * j] = values[head * size + j]
            stored[head * size + 2 * j + 1] = values[head * size + size // 2 + j]
    return stored


def _write_settings(writer: GGUFWriter) -> None:
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in TOKENS])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)

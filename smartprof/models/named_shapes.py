"""Shapes of published models by name, each with the file that it was read from.

For calibrations without weights and for estimates; what a shape is stands in `model_shape.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from smartprof.errors import ModelError
from smartprof.models.model_shape import ModelShape, RopeScaling

LLAMA_31_ROPE = RopeScaling(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=8192
)
LLAMA_32_ROPE = RopeScaling(
    factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=8192
)

NAMED_SHAPES: Mapping[str, ModelShape] = {
    shape.name: shape
    for shape in (
        # https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct, config.json
        ModelShape(
            name="SmolLM2-135M",
            layers=30,
            hidden=576,
            heads=9,
            kv_heads=3,
            head_dim=64,
            intermediate=1536,
            vocab=49_152,
            tied_embeddings=True,
            qkv_bias=False,
            rope_theta=100_000.0,
            rope_scaling=None,
            norm_eps=1e-5,
            max_context=8192,
        ),
        # Nobody's model: for tests.
        ModelShape(
            name="tiny-llama",
            layers=2,
            hidden=64,
            heads=4,
            kv_heads=2,
            head_dim=16,
            intermediate=128,
            vocab=256,
            tied_embeddings=True,
            qkv_bias=False,
            rope_theta=10_000.0,
            rope_scaling=None,
            norm_eps=1e-5,
            max_context=512,
        ),
        # https://huggingface.co/meta-llama/Llama-2-7b-hf, config.json
        ModelShape(
            name="Llama-2-7B",
            layers=32,
            hidden=4096,
            heads=32,
            kv_heads=32,
            head_dim=128,
            intermediate=11_008,
            vocab=32_000,
            tied_embeddings=False,
            qkv_bias=False,
            rope_theta=10_000.0,
            rope_scaling=None,
            norm_eps=1e-5,
            max_context=4096,
        ),
        # https://huggingface.co/meta-llama/Llama-3.1-8B, config.json
        ModelShape(
            name="Llama-3.1-8B",
            layers=32,
            hidden=4096,
            heads=32,
            kv_heads=8,
            head_dim=128,
            intermediate=14_336,
            vocab=128_256,
            tied_embeddings=False,
            qkv_bias=False,
            rope_theta=500_000.0,
            rope_scaling=LLAMA_31_ROPE,
            norm_eps=1e-5,
            max_context=131_072,
        ),
        # https://huggingface.co/meta-llama/Llama-3.3-70B-Instruct, config.json
        ModelShape(
            name="Llama-3.3-70B",
            layers=80,
            hidden=8192,
            heads=64,
            kv_heads=8,
            head_dim=128,
            intermediate=28_672,
            vocab=128_256,
            tied_embeddings=False,
            qkv_bias=False,
            rope_theta=500_000.0,
            rope_scaling=LLAMA_31_ROPE,
            norm_eps=1e-5,
            max_context=131_072,
        ),
        # https://huggingface.co/deepseek-ai/DeepSeek-R1-Distill-Llama-8B, config.json
        ModelShape(
            name="DeepSeek-R1-Distill-Llama-8B",
            layers=32,
            hidden=4096,
            heads=32,
            kv_heads=8,
            head_dim=128,
            intermediate=14_336,
            vocab=128_256,
            tied_embeddings=False,
            qkv_bias=False,
            rope_theta=500_000.0,
            rope_scaling=LLAMA_31_ROPE,
            norm_eps=1e-5,
            max_context=131_072,
        ),
        # https://huggingface.co/meta-llama/Llama-3.2-1B, config.json
        ModelShape(
            name="Llama-3.2-1B",
            layers=16,
            hidden=2048,
            heads=32,
            kv_heads=8,
            head_dim=64,
            intermediate=8192,
            vocab=128_256,
            tied_embeddings=True,
            qkv_bias=False,
            rope_theta=500_000.0,
            rope_scaling=LLAMA_32_ROPE,
            norm_eps=1e-5,
            max_context=131_072,
        ),
        # https://huggingface.co/Qwen/Qwen2-7B, config.json
        ModelShape(
            name="Qwen2-7B",
            layers=28,
            hidden=3584,
            heads=28,
            kv_heads=4,
            head_dim=128,
            intermediate=18_944,
            vocab=152_064,
            tied_embeddings=False,
            qkv_bias=True,
            rope_theta=1_000_000.0,
            rope_scaling=None,
            norm_eps=1e-6,
            max_context=131_072,
        ),
        # The language model of https://huggingface.co/Qwen/Qwen2-VL-7B-Instruct, config.json. Its
        # rotary positions have three parts, which for text are all the same.
        ModelShape(
            name="Qwen2-VL-7B",
            layers=28,
            hidden=3584,
            heads=28,
            kv_heads=4,
            head_dim=128,
            intermediate=18_944,
            vocab=152_064,
            tied_embeddings=False,
            qkv_bias=True,
            rope_theta=1_000_000.0,
            rope_scaling=None,
            norm_eps=1e-6,
            max_context=32_768,
        ),
        # https://huggingface.co/lmsys/vicuna-7b-v1.5, config.json
        ModelShape(
            name="Vicuna-7B-v1.5",
            layers=32,
            hidden=4096,
            heads=32,
            kv_heads=32,
            head_dim=128,
            intermediate=11_008,
            vocab=32_000,
            tied_embeddings=False,
            qkv_bias=False,
            rope_theta=10_000.0,
            rope_scaling=None,
            norm_eps=1e-5,
            max_context=4096,
        ),
        # https://huggingface.co/lmsys/vicuna-13b-v1.5, config.json
        ModelShape(
            name="Vicuna-13B-v1.5",
            layers=40,
            hidden=5120,
            heads=40,
            kv_heads=40,
            head_dim=128,
            intermediate=13_824,
            vocab=32_000,
            tied_embeddings=False,
            qkv_bias=False,
            rope_theta=10_000.0,
            rope_scaling=None,
            norm_eps=1e-5,
            max_context=4096,
        ),
        # The language model, Vicuna with padded vocabulary, of
        # https://huggingface.co/llava-hf/llava-1.5-7b-hf, config.json (text_config).
        ModelShape(
            name="LLaVA-1.5-7B",
            layers=32,
            hidden=4096,
            heads=32,
            kv_heads=32,
            head_dim=128,
            intermediate=11_008,
            vocab=32_064,
            tied_embeddings=False,
            qkv_bias=False,
            rope_theta=10_000.0,
            rope_scaling=None,
            norm_eps=1e-5,
            max_context=4096,
        ),
        # The same of https://huggingface.co/llava-hf/llava-1.5-13b-hf.
        ModelShape(
            name="LLaVA-1.5-13B",
            layers=40,
            hidden=5120,
            heads=40,
            kv_heads=40,
            head_dim=128,
            intermediate=13_824,
            vocab=32_064,
            tied_embeddings=False,
            qkv_bias=False,
            rope_theta=10_000.0,
            rope_scaling=None,
            norm_eps=1e-5,
            max_context=4096,
        ),
        # https://huggingface.co/Qwen/Qwen3-8B, config.json
        ModelShape(
            name="Qwen3-8B",
            layers=36,
            hidden=4096,
            heads=32,
            kv_heads=8,
            head_dim=128,
            intermediate=12_288,
            vocab=151_936,
            tied_embeddings=False,
            qkv_bias=False,
            rope_theta=1_000_000.0,
            rope_scaling=None,
            norm_eps=1e-6,
            max_context=40_960,
            qk_norm=True,
        ),
        # https://huggingface.co/mistralai/Mistral-7B-v0.3, config.json
        ModelShape(
            name="Mistral-7B-v0.3",
            layers=32,
            hidden=4096,
            heads=32,
            kv_heads=8,
            head_dim=128,
            intermediate=14_336,
            vocab=32_768,
            tied_embeddings=False,
            qkv_bias=False,
            rope_theta=1_000_000.0,
            rope_scaling=None,
            norm_eps=1e-5,
            max_context=32_768,
        ),
    )
}


def named_shape(name: str) -> ModelShape:
    """The shape of that name; ModelError listing the names if there is none."""
    if name not in NAMED_SHAPES:
        raise ModelError(f"unknown model shape {name!r}: expected one of {', '.join(NAMED_SHAPES)}")
    return NAMED_SHAPES[name]

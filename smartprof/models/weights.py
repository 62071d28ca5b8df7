"""Weights as torch tensors under their Hugging Face names, from files or from a random generator.

Knows nothing about the forward pass: only which tensors a `ModelShape` consists of.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from smartprof.device import free_bytes
from smartprof.errors import DeviceError, ModelError
from smartprof.format import bytes_text
from smartprof.models.fetch import MODELS, require_model
from smartprof.models.gguf_files import GgufFile
from smartprof.models.hub import is_hub_id, resolve_hub
from smartprof.models.json_files import read_json
from smartprof.models.naming import SHAPE_PREFIX, read_shape
from smartprof.models.shapes import ModelShape, named_shape

DEFAULT_TARGET = "smollm2"
RANDOM_STD = 0.02
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
WEIGHT_SUFFIXES = (".safetensors", ".index.json", ".bin", ".pt", ".pth", ".gguf")

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class ResolvedModel:
    """What `--target` names.

    Attributes:
        path: a Hugging Face directory or a GGUF file; None for random weights.
        shape: read from a `config.json` or GGUF file, or the named shape.
    """

    name: str
    path: Path | None
    shape: ModelShape

    @property
    def weights(self) -> str:
        """Which weights it runs with; latency does not depend on their values."""
        return "random weights" if self.path is None else "real weights"

    def load(self, dtype: torch.dtype, device: str | torch.device, seed: int = 0) -> Weights:
        """The weights on `device`: from `path`, or random ones made with `seed`."""
        if self.path is None:
            return random_weights(self.shape, seed, dtype, device)
        return load_weights(self.path, dtype, device)[1]


def resolve_target(name_or_dir: str = DEFAULT_TARGET) -> ResolvedModel:
    """Find a model by what a user writes.

    Args:
        name_or_dir: the name of a fetched model (`smollm2`), a Hugging Face directory, a `.gguf`
            file, a Hub id (`owner/name`, `owner/name@revision`), or `shape:NAME` for random weights
            of a named shape. A directory or Hub id that has `config.json` but no weights stands for
            random weights of its shape.

    Raises:
        ModelError: nothing of that name, or its config cannot be used.
    """
    if name_or_dir.startswith(SHAPE_PREFIX):
        shape = named_shape(name_or_dir.removeprefix(SHAPE_PREFIX))
        return ResolvedModel(name=f"{SHAPE_PREFIX}{shape.name}", path=None, shape=shape)
    path = require_model(name_or_dir) if name_or_dir in MODELS else Path(name_or_dir)
    name = None
    if not os.path.exists(path) and path.suffix != ".gguf" and is_hub_id(name_or_dir):
        path, name = resolve_hub(name_or_dir), name_or_dir.partition("@")[0].rpartition("/")[2]
    if os.path.isdir(path):
        shape = read_shape(path, name)
        if not _holds_weights(path):
            return ResolvedModel(name=shape.name, path=None, shape=shape)
    elif os.path.isfile(path) and path.suffix == ".gguf":
        shape = GgufFile(path).shape
    else:
        raise ModelError(
            f"no model {name_or_dir!r}: expected one of {', '.join(MODELS)}, a directory with "
            f"config.json, a .gguf file, a Hub id (owner/name), or {SHAPE_PREFIX}NAME"
        )
    return ResolvedModel(name=shape.name, path=path, shape=shape)


def _holds_weights(folder: Path) -> bool:
    """Whether there are weights of any format, so that those we cannot read are refused by name."""
    return any(next(folder.glob(f"*{x}"), None) is not None for x in WEIGHT_SUFFIXES)


def load_weights(
    source: Path | ModelShape, dtype: torch.dtype, device: str | torch.device
) -> tuple[ModelShape, Weights]:
    """Load all weights of a model.

    Args:
        source: a Hugging Face directory (one safetensors file, or shards listed in
            `model.safetensors.index.json`), a `.gguf` file, or a shape for random weights.
        dtype: every tensor is converted to it.
        device: where the tensors go.

    Raises:
        ModelError: a file is missing or cut short, or a tensor is missing, unexpected or of the
            wrong shape; the message names the file and the tensor.
    """
    if isinstance(source, ModelShape):
        return source, random_weights(source, 0, dtype, device)
    if source.suffix == ".gguf":
        return _load_gguf(source, dtype, device)
    return _load_directory(source, dtype, device)


def random_weights(
    shape: ModelShape, seed: int, dtype: torch.dtype, device: str | torch.device
) -> Weights:
    """Weights drawn from normal(0, 0.02), norms 1, biases 0: enough to time a dense model with.

    The same seed gives the same weights on the same kind of device.

    Raises:
        DeviceError: the device has not enough free memory for them.
    """
    needed, free = shape.weight_bytes(dtype.itemsize), free_bytes(str(device))
    if needed > free:
        raise DeviceError(
            f"{shape.name} in {dtype} needs {bytes_text(needed)}, {device} has {bytes_text(free)} "
            f"free: use a smaller shape or a narrower dtype"
        )
    generator = torch.Generator(device=device).manual_seed(seed)
    weights: Weights = {}
    for name, size in expected_tensors(shape).items():
        tensor = torch.empty(size, dtype=dtype, device=device)
        if name.endswith("norm.weight"):
            weights[name] = tensor.fill_(1.0)
        elif name.endswith(".bias"):
            weights[name] = tensor.zero_()
        else:
            weights[name] = tensor.normal_(0.0, RANDOM_STD, generator=generator)
    return weights


def expected_tensors(shape: ModelShape) -> dict[str, tuple[int, ...]]:
    """Name and size of every tensor of a model, in the order in which a forward pass meets them."""
    hidden, query, key = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (query, hidden),
        "self_attn.k_proj.weight": (key, hidden),
        "self_attn.v_proj.weight": (key, hidden),
        "self_attn.o_proj.weight": (hidden, query),
        "post_attention_layernorm.weight": (hidden,),
        "mlp.gate_proj.weight": (shape.intermediate, hidden),
        "mlp.up_proj.weight": (shape.intermediate, hidden),
        "mlp.down_proj.weight": (hidden, shape.intermediate),
    }
    if shape.qkv_bias:
        layer |= {f"self_attn.{part}_proj.bias": (key,) for part in "kv"}
        layer["self_attn.q_proj.bias"] = (query,)
    if shape.out_bias:
        layer["self_attn.o_proj.bias"] = (hidden,)
    if shape.qk_norm:
        layer |= {f"self_attn.{part}_norm.weight": (shape.head_dim,) for part in "qk"}
    tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocab, hidden)}
    for index in range(shape.layers):
        tensors |= {f"model.layers.{index}.{name}": size for name, size in layer.items()}
    tensors["model.norm.weight"] = (hidden,)
    if not shape.tied_embeddings:
        tensors["lm_head.weight"] = (shape.vocab, hidden)
    return tensors


def _load_gguf(
    path: Path, dtype: torch.dtype, device: str | torch.device
) -> tuple[ModelShape, Weights]:
    source = GgufFile(path)
    expected = expected_tensors(source.shape)
    weights: Weights = {}
    for name, values in source.tensors():
        _check_size(path, name, values.shape, expected)
        weights[name] = torch.tensor(values, dtype=dtype, device=device)
    _check_complete(path, weights, expected)
    return source.shape, weights


def _load_directory(
    folder: Path, dtype: torch.dtype, device: str | torch.device
) -> tuple[ModelShape, Weights]:
    shape = read_shape(folder)
    expected = expected_tensors(shape)
    weights: Weights = {}
    for path in weight_files(folder):
        for name, tensor in _read_safetensors(path, shape, expected, device):
            # A copy of its own: a tensor over the mapped file has neither aligned memory nor
            # protection against the file changing underneath.
            weights[name] = tensor.to(dtype=dtype, device=device, copy=True)
    _check_complete(folder, weights, expected)
    return shape, weights


def weight_files(folder: Path) -> list[Path]:
    """The one safetensors file of a directory, or its shards in order."""
    single, index = folder / SINGLE_FILE, folder / INDEX_FILE
    if single.exists():
        return [single]
    if not index.exists():
        raise ModelError(f"{folder}: expected {SINGLE_FILE} or {INDEX_FILE}, found neither")
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise ModelError(f"{index}: weight_map must name a file for every tensor")
    outside = [name for name in listed.values() if Path(name).name != name]
    if outside:
        raise ModelError(
            f"{index}: expected files of the same directory in weight_map, got {outside[0]!r}"
        )
    return [folder / name for name in sorted(set(listed.values()))]


def _read_safetensors(
    path: Path,
    shape: ModelShape,
    expected: Mapping[str, tuple[int, ...]],
    device: str | torch.device,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of one file, each checked before it is read."""
    try:
        with safe_open(path, framework="pt", device=str(device)) as source:
            for name in source.keys():  # noqa: SIM118 (a file handle, not a dict)
                if _is_redundant(name, shape):
                    continue
                _check_size(path, name, source.get_slice(name).get_shape(), expected)
                yield name, source.get_tensor(name)
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged or cut short: {error}") from error


def _is_redundant(name: str, shape: ModelShape) -> bool:
    """Old checkpoints store rotary tables, and some store tied embeddings twice."""
    is_second_copy = shape.tied_embeddings and name == "lm_head.weight"
    return is_second_copy or name.endswith("rotary_emb.inv_freq")


def _check_size(
    path: Path, name: str, size: tuple[int, ...] | list[int], expected: Mapping[str, tuple]
) -> None:
    if name not in expected:
        raise ModelError(f"{path}: unexpected tensor {name}")
    if tuple(size) != expected[name]:
        raise ModelError(
            f"{path}: tensor {name} has size {tuple(size)}, the config asks for {expected[name]}"
        )


def _check_complete(path: Path, weights: Weights, expected: Mapping[str, tuple]) -> None:
    missing = [name for name in expected if name not in weights]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(f"{path}: tensor {missing[0]}{more} missing")

"""From what a user names to a model that is ready to run."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from smartprof.device import Device, set_threads
from smartprof.errors import InputError, ModelError
from smartprof.models.kernel_memory import KernelMemory, open_memory
from smartprof.models.shapes import ModelShape
from smartprof.models.tokenizer import Tokenizer
from smartprof.models.transformer import Transformer
from smartprof.models.weights import ResolvedModel, random_weights, resolve_target

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEFAULT_DTYPE = {"cpu": "float32", "cuda": "bfloat16"}


@dataclass(frozen=True)
class LoadedModel:
    """A transformer on its device, its source and how long loading took.

    memory: where it has from how its passes run fastest, and where its drafters have it from.
    sliced: the transformer has fewer layers than the source, and random weights.
    """

    source: ResolvedModel
    transformer: Transformer
    dtype: str
    load_seconds: float
    memory: KernelMemory

    @property
    def sliced(self) -> bool:
        """Whether only a part of the layers is there."""
        return self.transformer.shape.layers < self.source.shape.layers

    @property
    def weights(self) -> str:
        """Which weights it runs with, and how many layers of them."""
        if not self.sliced:
            return self.source.weights
        held, layers = self.transformer.shape.layers, self.source.shape.layers
        return f"random weights, {held} of {layers} layers"

    def tokenizer(self) -> Tokenizer:
        """The model's own tokenizer; ModelError for a bare shape, which has none."""
        if self.source.path is None:
            raise ModelError(
                f"{self.source.name} has random weights and no tokenizer: expected a model "
                "directory or a fetched model for text"
            )
        return Tokenizer(self.source.path)


def dtype_name(asked: str | None, device: Device) -> str:
    """The dtype to compute in: what was asked for, or the device's default."""
    if asked is None:
        return DEFAULT_DTYPE[device.kind]
    if asked not in DTYPES:
        raise InputError(f"expected --dtype {', '.join(DTYPES)}, got {asked!r}")
    return asked


def load_model(
    name_or_dir: str, device: Device, dtype: str | None = None, anew: bool = False
) -> LoadedModel:
    """Load a target (or draft) model; on the CPU, fix the threads and lay the weights out.

    anew: measure how its passes run fastest, whatever the user's cache remembers.
    """
    start = time.perf_counter()
    chosen = dtype_name(dtype, device)
    source = resolve_target(name_or_dir)
    if device.threads is not None:
        set_threads(device.threads)
    weights = source.load(DTYPES[chosen], device.torch_device)
    memory = open_memory(device, str(torch.__version__), anew)
    transformer = Transformer(source.shape, weights, memory=memory)
    return LoadedModel(source, transformer, chosen, time.perf_counter() - start, memory)


def load_layers(
    source: ResolvedModel,
    shape: ModelShape,
    device: Device,
    dtype: str | None = None,
    anew: bool = False,
) -> LoadedModel:
    """A part of a model for timing: random weights of `shape`, which has fewer of its layers."""
    start = time.perf_counter()
    chosen = dtype_name(dtype, device)
    if device.threads is not None:
        set_threads(device.threads)
    weights = random_weights(shape, 0, DTYPES[chosen], device.torch_device)
    memory = open_memory(device, str(torch.__version__), anew)
    transformer = Transformer(shape, weights, memory=memory)
    return LoadedModel(source, transformer, chosen, time.perf_counter() - start, memory)


def load_draft_model(name_or_dir: str, target: LoadedModel) -> LoadedModel:
    """A smaller model that drafts for `target`, on its device and in its dtype.

    Raises ModelError if the two do not speak in the same tokens.
    """
    start = time.perf_counter()
    source = resolve_target(name_or_dir)
    _require_same_tokens(source, target.source)
    weights = source.load(DTYPES[target.dtype], target.transformer.device)
    transformer = Transformer(source.shape, weights, memory=target.memory)
    seconds = time.perf_counter() - start
    return LoadedModel(source, transformer, target.dtype, seconds, target.memory)


def _require_same_tokens(draft: ResolvedModel, target: ResolvedModel) -> None:
    """The same tokenizer; of bare shapes, which have none, as many tokens."""
    if draft.path is not None and target.path is not None:
        same = Tokenizer(draft.path).tokens == Tokenizer(target.path).tokens
    else:
        same = draft.shape.vocab == target.shape.vocab
    if not same:
        raise ModelError(
            f"{draft.name}: expected a drafter with the vocabulary of {target.name} "
            f"({target.shape.vocab} tokens), got another of {draft.shape.vocab}: choose a model "
            "of the same family"
        )

"""An EAGLE-3 draft head: one transformer layer over tokens and fused features of the target.

Layout of public checkpoints (arXiv 2503.01840 and its released heads): `fc`, `midlayer.*` (or
`layers.0.*`), `norm`, `lm_head`, `d2t`, `t2d`, and `embed_tokens` where the target's embeddings are
not shared. Knows nothing about trees or batches of requests.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from smartprof.errors import ModelError
from smartprof.models.block import Block, build_block, rms_norm
from smartprof.models.cache import KVCache
from smartprof.models.eagle3_config import FEATURES, Eagle3Shape
from smartprof.models.inputs import InputLayout, PackedInput
from smartprof.models.kernel_memory import KernelMemory
from smartprof.models.packing import Linear
from smartprof.models.rotary import rotations
from smartprof.models.tuning import tune
from smartprof.models.weights import INDEX_FILE, RANDOM_STD, SINGLE_FILE, Weights, weight_files

BIN_FILE = "pytorch_model.bin"
LAYER = "midlayer."
OTHER_LAYER = "layers.0."


@dataclass(frozen=True)
class Eagle3Weights:
    """A head's tensors under the names of the public layout, checked, in one dtype.

    embedding: [vocab, hidden], its own or the target's. target_ids: int64 [draft_vocab], the
    target's id of each draft token.
    """

    tensors: Weights
    embedding: Tensor
    target_ids: Tensor


class Eagle3Head:
    """The network of a head: features and tokens in, draft logits out."""

    def __init__(
        self, shape: Eagle3Shape, weights: Eagle3Weights, memory: KernelMemory | None = None
    ) -> None:
        """The tensors are taken out of `weights`. memory: as of a `Transformer`."""
        self.shape, self.embedding = shape, weights.embedding
        self.target_ids = weights.target_ids
        tensors = weights.tensors
        self.token_norm = tensors.pop(LAYER + "input_layernorm.weight")
        self.hidden_norm = tensors.pop(LAYER + "hidden_norm.weight")
        self.block: Block = build_block(shape.layer, tensors, LAYER)
        self.fc = Linear(tensors.pop("fc.weight"))
        self.norm = tensors.pop("norm.weight")
        self.head = Linear(tensors.pop("lm_head.weight"))
        self.dtype, self.device = self.norm.dtype, self.norm.device
        linears = [self.fc, *self.block.linears, self.head]
        self.layout: InputLayout = tune(linears, shape.layer, self.embedding, memory)
        self._rotations = rotations(shape.layer, 0, self.device)
        self._outgrown: list[Tensor] = []  # earlier, shorter ones: captured graphs still read them

    def fuse(self, features: Tensor) -> Tensor:
        """Hidden states [M, hidden] from the target's features [M, 3 * target_hidden]."""
        return self.fc(features)

    def forward(self, hidden: Tensor, batch: PackedInput, cache: KVCache) -> Tensor:
        """Outputs of the layer, before the last norm, [M, hidden].

        hidden: [M, hidden]; of a committed token the fused features of the token before it, of a
        drafted one the output at its parent. `batch` holds the tokens themselves.
        """
        if cache.columns > len(self._rotations):
            self._outgrown.append(self._rotations)
            self._rotations = rotations(self.shape.layer, cache.columns, self.device)
        eps = self.shape.layer.norm_eps
        token = rms_norm(F.embedding(batch.tokens, self.embedding), self.token_norm, eps)
        normed = rms_norm(hidden, self.hidden_norm, eps)
        residual = normed if self.shape.norm_before_residual else hidden
        turn = self._rotations[batch.positions].unsqueeze(1)  # [M, 1, head_dim / 2] complex
        joined = torch.cat([token, normed], 1)  # [M, 2 * hidden]
        return self.block.feed_forward(self.block.attend(joined, residual, 0, turn, batch, cache))

    def logits(self, outputs: Tensor) -> Tensor:
        """Scores of the draft tokens after each position, [M, draft_vocab]."""
        return self.head(rms_norm(outputs, self.norm, self.shape.layer.norm_eps))


def load_eagle3(
    folder: Path,
    shape: Eagle3Shape,
    embedding: Tensor,
    target_vocab: int,
    memory: KernelMemory | None = None,
) -> Eagle3Head:
    """A head from a directory, in the dtype and on the device of the target's `embedding`.

    memory: as of a `Transformer`.

    Raises:
        ModelError: a file is missing, damaged or holds more than tensors; a tensor is missing or
            of the wrong size; the head proposes tokens that the target does not have.
    """
    found = {_public_name(x): y for x, y in _read(folder).items()}
    d2t, t2d = found.pop("d2t", None), found.pop("t2d", None)
    own = found.pop("embed_tokens.weight", None)
    _check(folder, found, shape)
    if t2d is not None and len(t2d) != target_vocab:
        raise ModelError(
            f"{folder}: expected a head for {target_vocab} tokens, its t2d knows {len(t2d)}: "
            "choose a head that was trained for this target"
        )
    table = embedding if own is None else own.to(embedding)
    if table.shape != (target_vocab, shape.layer.hidden):
        raise ModelError(
            f"{folder}: expected embeddings of size {(target_vocab, shape.layer.hidden)}, got "
            f"{tuple(table.shape)}: choose a head that was trained for this target"
        )
    tensors = {x: y.to(embedding) for x, y in found.items()}
    ids = _target_ids(folder, d2t, shape, target_vocab).to(embedding.device)
    return Eagle3Head(shape, Eagle3Weights(tensors, table, ids), memory)


def random_eagle3(
    shape: Eagle3Shape, embedding: Tensor, seed: int = 0, memory: KernelMemory | None = None
) -> Eagle3Head:
    """A head with random weights: latency does not depend on their values."""
    device = embedding.device
    generator = torch.Generator(device=device).manual_seed(seed)
    tensors = {}
    for name, size in expected_tensors(shape).items():
        tensor = torch.empty(size, dtype=embedding.dtype, device=device)
        norm = name.endswith("norm.weight")
        tensors[name] = (
            tensor.fill_(1.0) if norm else tensor.normal_(0.0, RANDOM_STD, generator=generator)
        )
    ids = torch.arange(shape.draft_vocab, device=device)
    return Eagle3Head(shape, Eagle3Weights(tensors, embedding, ids), memory)


def expected_tensors(shape: Eagle3Shape) -> dict[str, tuple[int, ...]]:
    """Name and size of every tensor of a head but `d2t`, `t2d` and embeddings of its own."""
    layer = shape.layer
    hidden, query, key = layer.hidden, layer.heads * layer.head_dim, layer.kv_heads * layer.head_dim
    sizes: dict[str, tuple[int, ...]] = {"fc.weight": (hidden, FEATURES * shape.target_hidden)}
    norms = ("hidden_norm", "input_layernorm", "post_attention_layernorm")
    sizes |= {f"{LAYER}{x}.weight": (hidden,) for x in norms}
    sizes |= {
        LAYER + "self_attn.q_proj.weight": (query, 2 * hidden),
        LAYER + "self_attn.k_proj.weight": (key, 2 * hidden),
        LAYER + "self_attn.v_proj.weight": (key, 2 * hidden),
        LAYER + "self_attn.o_proj.weight": (hidden, query),
        LAYER + "mlp.gate_proj.weight": (layer.intermediate, hidden),
        LAYER + "mlp.up_proj.weight": (layer.intermediate, hidden),
        LAYER + "mlp.down_proj.weight": (hidden, layer.intermediate),
        "norm.weight": (hidden,),
        "lm_head.weight": (shape.draft_vocab, hidden),
    }
    if layer.qkv_bias:
        rows = {"q": query, "k": key, "v": key}
        sizes |= {f"{LAYER}self_attn.{x}_proj.bias": (y,) for x, y in rows.items()}
    if layer.out_bias:
        sizes[LAYER + "self_attn.o_proj.bias"] = (hidden,)
    return sizes


def _public_name(name: str) -> str:
    """The layer goes by two names."""
    return LAYER + name.removeprefix(OTHER_LAYER) if name.startswith(OTHER_LAYER) else name


def _read(folder: Path) -> Weights:
    if not any((folder / x).exists() for x in (SINGLE_FILE, INDEX_FILE)):
        return _read_bin(folder / BIN_FILE)
    tensors: Weights = {}
    for path in weight_files(folder):
        try:
            tensors |= load_file(path)
        except FileNotFoundError as error:
            raise ModelError(f"{path} is missing") from error
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is damaged or cut short: {error}") from error
    return tensors


def _read_bin(path: Path) -> Weights:
    """Tensors of an old file, which might hold any pickled object: those are refused."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(
            f"{path.parent}: expected {SINGLE_FILE} or {BIN_FILE}, got neither"
        ) from error
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        raise ModelError(
            f"{path}: expected tensors alone, got something else or a damaged file: convert it to "
            "safetensors where you trust it"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(x, Tensor) for x in found.values()):
        raise ModelError(f"{path}: expected a table of tensors, got {type(found).__name__}")
    return found


def _check(folder: Path, found: Mapping[str, Tensor], shape: Eagle3Shape) -> None:
    expected = expected_tensors(shape)
    fusion = found.get("fc.weight")
    if fusion is not None and tuple(fusion.shape) == (shape.layer.hidden, 2 * shape.layer.hidden):
        raise ModelError(
            f"{folder}: EAGLE-1 and EAGLE-2 heads are not supported (fc.weight takes one hidden "
            f"state of the target, that of EAGLE-3 takes {FEATURES}): expected an EAGLE-3 head"
        )
    for name in sorted(found.keys() ^ expected.keys()):
        problem = "missing" if name in expected else "not supported"
        raise ModelError(f"{folder}: tensor {name} is {problem}: expected a plain EAGLE-3 head")
    for name, size in expected.items():
        if tuple(found[name].shape) != size:
            raise ModelError(
                f"{folder}: tensor {name} has size {tuple(found[name].shape)}, expected {size}: "
                "choose a head that was trained for this target"
            )


def _target_ids(folder: Path, d2t: Tensor | None, shape: Eagle3Shape, target_vocab: int) -> Tensor:
    """Target ids of the draft tokens; d2t holds what to add to a draft id."""
    if d2t is None and shape.draft_vocab != target_vocab:
        raise ModelError(f"{folder}: tensor d2t is missing: its draft vocabulary is a reduced one")
    ids = torch.arange(shape.draft_vocab)
    if d2t is not None:
        ids = ids + d2t.long()
    if len(ids) != shape.draft_vocab or int(ids.min()) < 0 or int(ids.max()) >= target_vocab:
        raise ModelError(f"{folder}: d2t leads outside the {target_vocab} tokens of the target")
    if len(ids.unique()) < len(ids):
        raise ModelError(f"{folder}: d2t gives one target token to several draft tokens")
    return ids

"""Drafters by what a user writes: ``ngram``, ``lm:WHAT``, ``eagle3:WHAT``, ``hybrid:WHAT``.

``eagle3`` and ``hybrid`` alone take the head that is shipped for the target; ``auto`` is ``hybrid``
where there is one, else ``ngram``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smartprof.drafters.base import Drafter
from smartprof.drafters.hybrid import HybridDrafter
from smartprof.drafters.ngram import NgramDrafter
from smartprof.drafters.shipped import shipped_head
from smartprof.errors import InputError
from smartprof.models.eagle3_config import eagle3_shape, is_eagle3
from smartprof.models.hub import is_hub_id, resolve_hub
from smartprof.models.json_files import read_json
from smartprof.models.named_heads import head_for
from smartprof.models.unsupported import holds_head, one_layer

if TYPE_CHECKING:
    from smartprof.drafters.model_drafter import ModelDrafter
    from smartprof.models.execution import Execution
    from smartprof.models.loading import LoadedModel

AUTO, NGRAM, LM, EAGLE3, HYBRID = "auto", "ngram", "lm", "eagle3", "hybrid"
KINDS = (NGRAM, LM, EAGLE3, HYBRID)
RANDOM = "random"
CONFIG_FILE = "config.json"
HEAD_FILES = (CONFIG_FILE, "model*.safetensors", "model.safetensors.index.json", "*.bin")
EXPECTED = (
    "expected --drafter auto, ngram, lm:MODEL, eagle3[:HEAD], hybrid[:MODEL-OR-HEAD], or a "
    "directory or Hub id alone; a HEAD is a directory, a Hub id, or random (for timing)"
)

MakeDrafter = Callable[[], Drafter]


@dataclass(frozen=True)
class DrafterChoice:
    """What `--drafter` names.

    kind: its name in a profile. network: lm or eagle3, None for ngram. source: the network's
    directory, Hub id or name, as the user wrote it. path: of a head's files.
    """

    kind: str
    network: str | None = None
    source: str = ""
    path: Path | None = None

    @property
    def text(self) -> str:
        """The choice as `--drafter` would have it."""
        return f"{self.kind}:{self.source}" if self.source else self.kind


def choose_drafter(text: str, target: str, priced: Collection[str] | None = None) -> DrafterChoice:
    """What a user's text names, before any weights are loaded.

    target: as `--target` has it. priced: drafters that a profile has prices of, where ``auto`` must
    be one of them. Raises InputError or ModelError, one line, if the text names nothing.
    """
    kind, colon, source = text.partition(":")
    if text == AUTO and priced is not None and HYBRID not in priced:
        text = NGRAM
    if text in (AUTO, EAGLE3, HYBRID):
        return _shipped(text, target)
    if text == NGRAM:
        return DrafterChoice(NGRAM)
    if kind in (AUTO, NGRAM):
        raise InputError(f"{EXPECTED}; got {text!r}")
    if kind not in KINDS or not colon:
        if kind in KINDS:
            raise InputError(f"{EXPECTED}; got {text!r}, which names no network")
        kind, source = "", text
    if not source:
        raise InputError(f"{EXPECTED}; got {text!r}")
    network, path = _network(kind, source)
    if kind in (LM, EAGLE3) and network != kind:
        raise InputError(f"{source}: expected {kind}, its config.json says {network}")
    return DrafterChoice(kind or network, network, source, path)


def _shipped(text: str, target: str) -> DrafterChoice:
    """The head of the package for this target."""
    from smartprof.models.weights import resolve_target

    shape = resolve_target(target).shape
    path = shipped_head(shape)
    if path is not None:
        return DrafterChoice(EAGLE3 if text == EAGLE3 else HYBRID, EAGLE3, str(path), path)
    if text == AUTO:
        return DrafterChoice(NGRAM)
    raise InputError(
        f"no head is shipped for {shape.name}: name one, --drafter {text}:HEAD, or train one with "
        "tools/train_eagle3.py"
    )


def drafter_maker(
    choice: DrafterChoice, target: LoadedModel, execution: Execution | None = None
) -> MakeDrafter:
    """A function that makes fresh drafters; networks are loaded here, once.

    execution: how their passes run; default: eagerly. Raises ModelError for a network that does not
    fit the target.
    """
    if choice.network is None:
        return NgramDrafter
    make = _lm_maker if choice.network == LM else _head_maker
    make_model = make(choice, target, execution)
    if choice.kind == HYBRID:
        return lambda: HybridDrafter(NgramDrafter(), make_model())
    return make_model


def _network(kind: str, source: str) -> tuple[str, Path | None]:
    """Which network it is, and where its files are if it is a head."""
    if source == RANDOM:
        if kind == LM:
            raise InputError(f"{EXPECTED}; a random language model is lm:shape:NAME")
        return EAGLE3, None
    path = Path(source)
    from_hub = not os.path.exists(path) and is_hub_id(source)
    if from_hub and kind != LM:  # the weights of a language model would be fetched in vain
        path = resolve_hub(source, (CONFIG_FILE,))
        config = read_json(path / CONFIG_FILE)
        # One layer may be a head of any kind: the weights tell.
        if kind == EAGLE3 or is_eagle3(config) or one_layer(config):
            path = resolve_hub(source, HEAD_FILES)
    if kind == EAGLE3 and not os.path.isdir(path):
        raise InputError(f"{source}: expected a head's directory or Hub id, found nothing there")
    if not os.path.isdir(path) or not (kind == EAGLE3 or _is_head(path)):
        if not os.path.exists(path) and not is_hub_id(source):
            _require_model(source)
        return LM, None
    return EAGLE3, path


def _require_model(name: str) -> None:
    """Raise ModelError for a name that leads nowhere, before anything is loaded."""
    from smartprof.models.weights import resolve_target

    resolve_target(name)


def _is_head(folder: Path) -> bool:
    """By its config, or by the weights: those of older kinds have a language model's config."""
    config = read_json(folder / CONFIG_FILE)
    return is_eagle3(config) or holds_head(folder, config)


def _lm_maker(
    choice: DrafterChoice, target: LoadedModel, execution: Execution | None
) -> Callable[[], ModelDrafter]:
    from smartprof.drafters.language_model import LanguageModelDrafter
    from smartprof.models.execution import EAGER
    from smartprof.models.loading import load_draft_model

    model = load_draft_model(choice.source, target)
    vocab = target.source.shape.vocab
    return lambda: LanguageModelDrafter(model.transformer, vocab, execution or EAGER)


def _head_maker(
    choice: DrafterChoice, target: LoadedModel, execution: Execution | None
) -> Callable[[], ModelDrafter]:
    from smartprof.drafters.eagle3 import Eagle3Drafter
    from smartprof.models.eagle3 import load_eagle3, random_eagle3
    from smartprof.models.execution import EAGER

    shape, embedding = target.source.shape, target.transformer.embedding
    if choice.path is None:
        head = random_eagle3(head_for(shape), embedding, memory=target.memory)
    else:
        config = read_json(choice.path / CONFIG_FILE)
        found = eagle3_shape(config, choice.path.resolve().name, shape)
        head = load_eagle3(choice.path, found, embedding, shape.vocab, target.memory)
    return lambda: Eagle3Drafter(head, execution or EAGER)

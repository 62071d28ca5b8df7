"""From what a user calls a model to its shape, without weights and without torch."""

from __future__ import annotations

import os
from pathlib import Path

from smartprof.errors import ModelError
from smartprof.models.hub import is_hub_id, resolve_hub
from smartprof.models.json_files import read_json
from smartprof.models.shapes import NAMED_SHAPES, ModelShape, named_shape, shape_from_config
from smartprof.models.unsupported import require_no_head, require_text_model

SHAPE_PREFIX = "shape:"
CONFIG_FILE = "config.json"


def read_shape(folder: Path, name: str | None = None) -> ModelShape:
    """The shape that `config.json` of a Hugging Face directory describes, named after the folder.

    name: another name; a Hub snapshot's folder is called by a commit.
    """
    config, name = read_json(folder / CONFIG_FILE), name or folder.resolve().name
    require_text_model(config, name)
    require_no_head(folder, config)
    return shape_from_config(config, name)


def find_shape(text: str) -> ModelShape | None:
    """The shape of a named model: the name of a shape, with or without `shape:`, of a fetched
    model, a directory with `config.json`, a `.gguf` file or a Hub id; None if it is none of these.

    Raises ModelError for one of these that cannot be read.
    """
    from smartprof.models.fetch import MODELS, require_model
    from smartprof.models.gguf_files import GgufFile

    if text.startswith(SHAPE_PREFIX) or text in NAMED_SHAPES:
        return named_shape(text.removeprefix(SHAPE_PREFIX))
    path = require_model(text) if text in MODELS else Path(text)
    if os.path.isdir(path):
        return read_shape(path)
    if path.suffix == ".gguf":
        return GgufFile(path).shape
    if is_hub_id(text):
        return read_shape(resolve_hub(text, (CONFIG_FILE,)), text.partition("@")[0].split("/")[1])
    return None


def require_shape(text: str) -> ModelShape:
    """The same; ModelError if the text names nothing."""
    found = find_shape(text)
    if found is None:
        raise ModelError(
            f"no model {text!r}: expected a named shape ({', '.join(NAMED_SHAPES)}), a fetched "
            "model, a directory with config.json, a .gguf file or a Hub id (owner/name)"
        )
    return found

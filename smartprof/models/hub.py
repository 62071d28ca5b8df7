"""From a Hub id to a directory of files, through `huggingface_hub`: its cache, its offline mode."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from smartprof.errors import ModelError

MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "model*.safetensors",
    "model.safetensors.index.json",
)
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def is_hub_id(name: str) -> bool:
    """Whether it reads like ``owner/name`` or ``owner/name@revision``."""
    return HUB_ID.fullmatch(name) is not None and not name.startswith(".")


def resolve_hub(name: str, patterns: Sequence[str] = MODEL_FILES) -> Path:
    """The directory with a Hub repository's files, downloaded unless the cache has them.

    Args:
        name: ``owner/name``, or ``owner/name@revision``.
        patterns: files wanted.

    Raises:
        ModelError: it is not there, access was refused, or the Hub cannot be reached and the cache
            does not have it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, _, revision = name.partition("@")
    try:
        found = snapshot_download(
            repository, revision=revision or None, allow_patterns=list(patterns)
        )
    except GatedRepoError as error:
        raise ModelError(
            f"{name}: access is restricted: accept its terms on the Hub and run `hf auth login`"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise ModelError(
            f"no model {name!r}, neither a local directory nor a repository and revision that the "
            "Hub shows: check the spelling, or run `hf auth login` if it is private"
        ) from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{name}: not in the local Hub cache, and the Hub cannot be reached: connect, or pass "
            "a directory with config.json"
        ) from error
    return Path(found)

"""Draft heads that come with the package, by the target they were trained for."""

from __future__ import annotations

from pathlib import Path

from smartprof.models.shapes import ModelShape

FOLDER = Path(__file__).parents[1] / "assets" / "heads"
# directories, by the digest of the target's shape
HEADS: dict[str, str] = {"b04185f87ddbd8c6": "smollm2-135m-instruct"}


def shipped_head(target: ModelShape) -> Path | None:
    """The directory of the head for a target of this shape, None if there is none.

    Fine-tuned models have the shape of their base: a head drafts for them losslessly, but was
    trained for the one that it is named after.
    """
    name = HEADS.get(target.digest)
    return None if name is None else FOLDER / name

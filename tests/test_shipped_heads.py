from __future__ import annotations

import json

import pytest
import torch

from smartprof.device import resolve_device
from smartprof.drafters.hybrid import HybridDrafter
from smartprof.drafters.shipped import FOLDER, HEADS, shipped_head
from smartprof.drafters.table import choose_drafter, drafter_maker
from smartprof.models.eagle3 import load_eagle3
from smartprof.models.eagle3_config import eagle3_shape
from smartprof.models.loading import load_model
from smartprof.models.weights import resolve_target
from tests.default_model import default_model_dir

MOST_BYTES = 20_000_000


def test_every_head_in_the_package_is_some_targets() -> None:
    assert {x.name for x in FOLDER.iterdir()} == set(HEADS.values())


@pytest.mark.parametrize("name", HEADS.values())
def test_a_head_is_small_and_comes_with_its_card(name: str) -> None:
    folder = FOLDER / name
    assert {x.name for x in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert (folder / "model.safetensors").stat().st_size <= MOST_BYTES
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "python tools/train_eagle3.py train" in card
    assert "python tools/train_eagle3.py evaluate" in card


def test_the_default_model_drafts_with_its_head_and_n_grams() -> None:
    target = str(default_model_dir())
    choice = choose_drafter("auto", target)
    assert choice.kind == "hybrid"
    model = load_model("smollm2", resolve_device("cpu"))
    assert isinstance(drafter_maker(choice, model)(), HybridDrafter)


def test_the_head_of_the_default_model_holds_weights_that_were_trained() -> None:
    source = resolve_target(str(default_model_dir()))
    path = shipped_head(source.shape)
    assert path is not None
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    shape = eagle3_shape(config, path.name, source.shape)
    embedding = torch.zeros(source.shape.vocab, source.shape.hidden)
    head = load_eagle3(path, shape, embedding, source.shape.vocab)
    assert len(head.target_ids.unique()) == shape.draft_vocab
    scores = head.logits(torch.randn(3, shape.layer.hidden, generator=torch.manual_seed(0)))
    assert scores.isfinite().all() and float(scores.std()) > 0.1

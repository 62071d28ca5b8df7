"""Named EAGLE-3 heads fit their targets and are what `random` times."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from smartprof.errors import ModelError
from smartprof.models.eagle3_config import eagle3_shape
from smartprof.models.named_heads import DRAFT_VOCABS, NAMED_HEADS, head_for, named_head
from smartprof.models.shapes import NAMED_SHAPES, named_shape

PACKAGE = Path(__file__).parents[1] / "smartprof"


@pytest.mark.parametrize("target", DRAFT_VOCABS)
def test_a_named_head_reads_its_target_and_proposes_no_more_tokens_than_it_has(target: str) -> None:
    head, shape = named_head(f"EAGLE3-{target}"), named_shape(target)
    assert head.layer.layers == 1
    assert head.target_hidden == shape.hidden
    assert head.draft_vocab <= shape.vocab
    assert max(head.taps) < shape.layers


def test_the_shipped_head_has_the_sizes_of_the_named_one() -> None:
    folder = PACKAGE / "assets" / "heads" / "smollm2-135m-instruct"
    config = json.loads((folder / "config.json").read_text())
    shipped = eagle3_shape(config, "shipped", named_shape("SmolLM2-135M"))
    assert shipped.digest == named_head("EAGLE3-SmolLM2-135M").digest


def test_every_target_that_the_table_of_shapes_names_for_speculation_has_a_head() -> None:
    without = {"tiny-llama", "Llama-3.2-1B", "Qwen3-8B", "Mistral-7B-v0.3"}
    assert set(NAMED_SHAPES) - without == set(DRAFT_VOCABS)
    assert len(NAMED_HEADS) == len(DRAFT_VOCABS)


def test_random_heads_are_the_named_ones_under_any_name_of_the_target() -> None:
    renamed = replace(named_shape("LLaVA-1.5-7B"), name="mine")
    assert head_for(renamed).draft_vocab == 6024
    assert head_for(named_shape("Qwen3-8B")).draft_vocab == 32_000


def test_an_unknown_head_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"unknown head 'EAGLE3-x': expected one of EAGLE3-Smol"):
        named_head("EAGLE3-x")

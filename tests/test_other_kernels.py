from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from smartprof.commands import other_kernels
from smartprof.models.named_shapes import named_shape
from smartprof.models.transformer import Transformer
from smartprof.models.weights import random_weights
from smartprof.profile.keys import KeyMatch
from smartprof.profile.schema import Profile
from tests.profiles import make_profile

SHAPE = named_shape("tiny-llama")
HERE = KeyMatch(device_match=True, refused=[], warnings=[], modelled=[])


@pytest.fixture(scope="module")
def model() -> Transformer:
    return Transformer(SHAPE, random_weights(SHAPE, 0, torch.float32, "cpu"), prepack=False)


def with_note(note: str | None) -> Profile:
    profile = make_profile()
    provenance = profile.provenance.model_copy(update={"note": note})
    return profile.model_copy(update={"provenance": provenance})


def test_a_profile_of_other_kernels_is_told(model: Transformer) -> None:
    profile = with_note(f"random weights; {model.kernels}")
    assert other_kernels(profile, model, HERE) == []
    size = "x".join(map(str, model.linears[0].size))
    other = with_note(f"random weights; {model.kernels}".replace(f"{size} plain", f"{size} packed"))
    (warning,) = other_kernels(other, model, HERE)
    assert "kernels" in warning
    assert "\n" not in warning


@pytest.mark.parametrize("note", [None, "", "random weights"])
def test_a_profile_that_tells_no_kernels_is_not_doubted(
    model: Transformer, note: str | None
) -> None:
    assert other_kernels(with_note(note), model, HERE) == []


def test_of_another_device_other_kernels_are_expected(model: Transformer) -> None:
    elsewhere = replace(HERE, device_match=False)
    assert other_kernels(with_note("linear 1x1 packed"), model, elsewhere) == []

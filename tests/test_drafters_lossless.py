"""Whatever drafts, the text is plain decoding's."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import pytest
import torch

from smartprof.decode.equality import compare
from smartprof.decode.records import Equality
from smartprof.decode.requests import Request
from smartprof.decode.run import Lane
from smartprof.drafters.base import Drafter
from smartprof.drafters.eagle3 import Eagle3Drafter
from smartprof.drafters.hybrid import HybridDrafter
from smartprof.drafters.language_model import LanguageModelDrafter
from smartprof.drafters.ngram import NgramDrafter
from smartprof.models.eagle3 import random_eagle3
from smartprof.models.eagle3_config import random_shape
from smartprof.models.transformer import Transformer
from smartprof.models.weights import random_weights
from tests.tiny_decoding import POLICIES, decoded, outputs, random_requests
from tests.tiny_head import TARGET

KINDS = ("lm", "eagle3", "hybrid-lm", "hybrid-eagle3")
NOISE = 0.15  # of the draft model's weights against the target's: it is right now and then

Make = Callable[[], Drafter]


def _weights(noise: float) -> dict[str, torch.Tensor]:
    """The target's random weights, or a disturbed copy."""
    weights = random_weights(TARGET, 5, torch.float32, "cpu")
    generator = torch.Generator().manual_seed(1)
    loud = {x: y if x.endswith("norm.weight") else y * 6 for x, y in weights.items()}
    return {
        x: y + noise * y.std() * torch.randn(y.shape, generator=generator) if y.dim() > 1 else y
        for x, y in loud.items()
    }


@pytest.fixture(scope="module")
def model() -> Transformer:
    return Transformer(TARGET, _weights(0.0))


@pytest.fixture(scope="module")
def makers(model: Transformer) -> dict[str, Make]:
    draft = Transformer(TARGET, _weights(NOISE))
    head = random_eagle3(random_shape(TARGET), model.embedding)
    return {
        "lm": lambda: LanguageModelDrafter(draft, TARGET.vocab),
        "eagle3": lambda: Eagle3Drafter(head),
        "hybrid-lm": lambda: HybridDrafter(
            NgramDrafter(), LanguageModelDrafter(draft, TARGET.vocab)
        ),
        "hybrid-eagle3": lambda: HybridDrafter(NgramDrafter(), Eagle3Drafter(head)),
    }


def _compared(lane: Lane, plain: dict[int, list[int]]) -> Equality:
    checks = [compare(lane.decoder.target, x, plain[x.index], frozenset()) for x in lane.finished]
    return sum(checks, Equality(0, 0, 0))


def _plain(model: Transformer, requests: list[Request], batch: int) -> dict[int, list[int]]:
    return dict(enumerate(outputs(decoded(model, "plain", requests, batch))))


@pytest.mark.parametrize("kind", KINDS)
def test_drafters_with_a_network_change_no_token(
    model: Transformer, makers: dict[str, Make], kind: str
) -> None:
    for policy, batch in zip(POLICIES, cycle((1, 3, 4)), strict=False):
        requests = random_requests(2 * batch, batch, 24)
        lane = decoded(model, policy, requests, batch, makers[kind]())
        found = _compared(lane, _plain(model, requests, batch))
        assert found.tokens == 24 * len(requests)
        assert found.changed == found.ties == 0
        if kind != "eagle3":  # a random head is hardly ever right
            assert sum(int(x.accepted.sum()) for x in lane.counted) > 0


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_tokens_of_each_drafter_are_those_of_plain_decoding(
    model: Transformer, makers: dict[str, Make], kind: str
) -> None:
    found, accepted = Equality(0, 0, 0), 0
    for seed, batch in enumerate((1, 2, 4, 8, 16)):
        requests = random_requests(max(8, 2 * batch), seed, 50)
        plain = _plain(model, requests, batch)
        for policy in POLICIES:
            lane = decoded(model, policy, requests, batch, makers[kind]())
            found += _compared(lane, plain)
            accepted += sum(int(x.accepted.sum()) for x in lane.counted)
    print(f"{kind}: {found}, {accepted} draft tokens accepted")
    assert found.tokens >= 10_000
    assert found.identical, found

"""Which rounds of policies that decode in turns are counted: those that follow one of their own."""

from __future__ import annotations

from collections import deque

import pytest

from smartprof.decode.run import TURN_ROUNDS, Lane, run_lanes
from smartprof.models.transformer import Transformer
from tests.tiny_decoding import decoded, loud_model, random_requests

NEW = 40


@pytest.fixture(scope="module")
def model() -> Transformer:
    return loud_model()


def lane(model: Transformer, label: str, requests: int, new: int = NEW) -> Lane:
    """One that has nothing decoded yet."""
    made = decoded(model, "plain", random_requests(requests, new=new), 1)
    queue = deque(enumerate(random_requests(requests, new=new)))
    return Lane(label, made.decoder, 1, queue)


def order_of(lanes: list[Lane]) -> list[str]:
    order: list[str] = []
    run_lanes(lanes, lambda x: order.append(x.label))
    return order


def test_a_lane_alone_has_all_its_rounds_counted(model: Transformer) -> None:
    alone = lane(model, "plain", 2)
    assert order_of([alone]) == ["plain"] * 2 * NEW
    assert len(alone.counted) == 2 * NEW
    assert alone.unsettled == []


def test_of_every_turn_all_rounds_but_the_first_are_counted(model: Transformer) -> None:
    lanes = [lane(model, x, 2) for x in ("one", "other")]
    order = order_of(lanes)
    changes = [x != y for x, y in zip([None, *order], order, strict=False)]
    for each in lanes:
        mine = [x for x, y in zip(changes, order, strict=True) if y == each.label]
        assert mine == ([True] + [False] * (TURN_ROUNDS - 1)) * (2 * NEW // TURN_ROUNDS)
        assert len(each.unsettled) == sum(mine)
        assert len(each.counted) == 2 * NEW - sum(mine)


def test_a_lane_that_never_runs_twice_in_a_row_has_its_rounds_counted(model: Transformer) -> None:
    lanes = [lane(model, x, 1, new=1) for x in ("one", "other")]
    assert order_of(lanes) == ["one", "other"]
    assert [len(x.counted) for x in lanes] == [1, 1]


def test_the_last_lane_left_goes_on_without_a_break(model: Transformer) -> None:
    short, long = lane(model, "short", 1, new=1), lane(model, "long", 1)
    order_of([short, long])
    assert len(long.unsettled) == 1
    assert len(long.counted) == NEW - 1

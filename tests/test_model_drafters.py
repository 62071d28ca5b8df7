"""Drafters with a network: batched, ragged and cached, against everything computed anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from smartprof.decode.target import Target
from smartprof.drafters.confidence import MOST, Confidence
from smartprof.drafters.eagle3 import Eagle3Drafter
from smartprof.drafters.language_model import LanguageModelDrafter
from smartprof.drafters.model_drafter import ModelDrafter
from smartprof.models.eagle3 import Eagle3Head, load_eagle3
from smartprof.models.eagle3_config import eagle3_shape
from smartprof.models.execution import EAGER, Execution
from smartprof.models.runners import CapturePool
from smartprof.models.transformer import Transformer
from smartprof.models.weights import random_weights
from smartprof.trees.forest import Children, Forest
from smartprof.trees.packed import Accepted, pack
from tests.forests import path_tokens
from tests.tiny_head import SIZES, TARGET, write_head

CAPACITY = 240
TOLERANCE = 5e-4
KINDS = ("lm", "eagle3", "lm, static", "eagle3, static")  # static: as captured passes run


def loud(seed: int) -> Transformer:
    """Random weights, large enough that what is seen matters."""
    weights = random_weights(TARGET, seed, torch.float32, "cpu")
    scaled = {x: y if x.endswith("norm.weight") else y * 6 for x, y in weights.items()}
    return Transformer(TARGET, scaled)


@pytest.fixture(scope="module")
def target_model() -> Transformer:
    return loud(5)


@pytest.fixture(scope="module")
def draft_model() -> Transformer:
    return loud(8)


@pytest.fixture(scope="module")
def head(target_model: Transformer, tmp_path_factory: pytest.TempPathFactory) -> Eagle3Head:
    folder: Path = write_head(tmp_path_factory.mktemp("head"))
    shape = eagle3_shape(SIZES, "head", TARGET)
    return load_eagle3(folder, shape, target_model.embedding, TARGET.vocab)


@pytest.fixture(params=KINDS)
def made(
    request: pytest.FixtureRequest, draft_model: Transformer, head: Eagle3Head
) -> ModelDrafter:
    kind, _, static = request.param.partition(", ")
    pool = CapturePool(lambda run: run, pytest.fail) if static else None
    return fresh(kind, draft_model, head, Execution(pool))


def fresh(
    kind: str, draft_model: Transformer, head: Eagle3Head, execution: Execution = EAGER
) -> ModelDrafter:
    drafter: ModelDrafter
    if kind == "lm":
        drafter = LanguageModelDrafter(draft_model, TARGET.vocab, execution)
    else:
        drafter = Eagle3Drafter(head, execution)
    drafter.freeze()
    return drafter


class Play:
    """Requests, their target and their drafter, going through rounds of random trees."""

    def __init__(self, model: Transformer, drafter: ModelDrafter, batch: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.drafter, self.target = drafter, Target(model, batch, CAPACITY, drafter.taps)
        drafter.attach(self.target.cache)
        self.texts: list[list[int]] = []
        for row in range(batch):
            self.texts.append([])
            self.admit(row)

    def admit(self, row: int) -> None:
        self.texts[row] = self.rng.integers(0, TARGET.vocab, self.rng.integers(2, 30)).tolist()
        self.target.prefill(row, self.texts[row])
        self.drafter.admit(row, self.texts[row])

    def draft(self, steps: int) -> tuple[Forest, dict[int, Children]]:
        """A forest, and what was proposed below each expanded node."""
        forest = Forest.roots(np.array([x[-1] for x in self.texts]))
        proposed: dict[int, Children] = {}
        for step in range(steps):
            frontier = forest.frontier
            if step:
                frontier = frontier[frontier >= len(self.texts)]
            if not frontier.size:
                break
            wanted = 1 + self.rng.integers(0, min(9, len(frontier)))
            nodes = np.sort(self.rng.permutation(frontier)[:wanted])
            children = self.drafter.expand(forest, nodes)
            for node in nodes.tolist():
                mine = children.parent == node
                proposed[node] = Children(
                    children.parent[mine], children.token[mine], children.conditional[mine]
                )
            forest = forest.extend(nodes, children)
        return forest, proposed

    def commit(self, forest: Forest) -> None:
        """Accept a random path of each tree and a random token behind it."""
        nodes = np.arange(len(self.texts), forest.size)
        trees = pack(forest, nodes[: 40 * len(self.texts)] if len(nodes) else nodes)
        lengths = np.array([len(x) for x in self.texts])
        self.target.verify(trees, lengths, len(trees.token))
        paths = []
        for row in range(len(self.texts)):
            path: list[int] = []
            place = int(trees.offset[row])
            while (below := np.flatnonzero(trees.parent == place)).size and self.rng.random() < 0.8:
                place = int(self.rng.choice(below))
                path.append(place)
            paths.append(np.array(path, np.int64))
        bonus = self.rng.integers(0, TARGET.vocab, len(self.texts))
        self.target.keep(trees, Accepted(paths, bonus), lengths)
        for row, path in enumerate(paths):
            tokens = [*trees.token[path].tolist(), int(bonus[row])]
            self.texts[row] += tokens
            self.drafter.commit(row, tokens)

    def refill(self) -> None:
        """The first request ends, the last takes its row, a new one comes in behind."""
        last = len(self.texts) - 1
        self.drafter.release(0)
        if last:
            self.target.cache.move_row(last, 0, len(self.texts[last]))
            self.drafter.move(last, 0)
        self.texts[0] = self.texts[last]
        self.admit(last)


def anew(
    drafter: ModelDrafter, model: Transformer, text: list[int], path: list[int]
) -> dict[int, float]:
    """Proposals below a path by a drafter that has seen nothing but this one request."""
    target = Target(model, 1, CAPACITY, drafter.taps)
    twin = fresh(drafter.name, getattr(drafter, "model", None), getattr(drafter, "head", None))  # type: ignore[arg-type]
    twin.attach(target.cache)
    target.prefill(0, text)
    twin.admit(0, text)
    forest, node = Forest.roots(np.array(text[-1:])), 0
    for token in [*path, None]:
        children = twin.expand(forest, np.array([node]))
        if token is None:
            return dict(zip(children.token.tolist(), children.conditional.tolist(), strict=True))
        wanted = Children(np.array([node], np.int32), np.array([token]), np.array([0.5]))
        forest, node = forest.extend(np.array([node]), wanted), forest.size
    raise AssertionError


def check(play: Play, forest: Forest, proposed: dict[int, Children], most: int = 4) -> int:
    nodes = play.rng.permutation(list(proposed))[:most].tolist()
    for node in nodes:
        text = play.texts[int(forest.request[node])]
        expected = anew(play.drafter, play.target.model, text, path_tokens(forest, node))
        found = proposed[node]
        assert set(found.token.tolist()) ^ set(expected) <= near_the_least(found, expected)
        for token, value in zip(found.token.tolist(), found.conditional.tolist(), strict=True):
            assert expected.get(token, value) == pytest.approx(value, abs=TOLERANCE)
    return len(nodes)


def near_the_least(found: Children, expected: dict[int, float]) -> set[int]:
    """Tokens at the end of a list, which rounding may let in or leave out."""
    both = expected | dict(zip(found.token.tolist(), found.conditional.tolist(), strict=True))
    last = min(both.values()) + TOLERANCE if both else 0.0
    return {x for x, y in both.items() if y <= last}


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_proposals_equal_those_of_a_drafter_that_starts_anew(
    made: ModelDrafter, target_model: Transformer, batch: int
) -> None:
    checked = 0
    for seed in range(2):
        play = Play(target_model, made, batch, seed)
        for round in range(4):
            forest, proposed = play.draft(int(play.rng.integers(0, 5)))
            checked += check(play, forest, proposed)
            play.commit(forest)
            if round == 1:
                play.refill()
    assert checked > 12


def test_a_cache_that_is_not_moved_with_its_request_would_be_noticed(
    made: ModelDrafter, target_model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control."""
    play = Play(target_model, made, 3, 1)
    assert len(play.texts[2]) > 5

    def forget(self: ModelDrafter, source: int, target: int) -> None:
        self._rows[target] = self._rows.pop(source)

    monkeypatch.setattr(ModelDrafter, "move", forget)
    play.refill()
    forest = Forest.roots(np.array([x[-1] for x in play.texts]))
    proposed = {0: made.expand(forest, np.array([0]))}
    with pytest.raises(AssertionError):
        check(play, forest, proposed)


def test_a_drafter_that_paused_for_long_takes_everything_in_again(
    made: ModelDrafter, target_model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartprof.drafters.model_drafter.CHUNK", 7)  # in several passes
    play = Play(target_model, made, 3, 1)
    for _ in range(4):
        play.commit(play.draft(1)[0] if play.rng.random() < 0.2 else _roots(play))
    for row in range(3):
        tokens = play.rng.integers(0, TARGET.vocab, 11 * row).tolist()
        play.texts[row] += tokens
        made.commit(row, tokens)
        play.target.prefill(row, play.texts[row])
    noted = made.pending(made.name)
    assert noted >= 33
    forest, proposed = play.draft(2)
    assert made.pending(made.name) < noted
    check(play, forest, proposed)


def _roots(play: Play) -> Forest:
    return Forest.roots(np.array([x[-1] for x in play.texts]))


def test_a_request_of_one_token_gets_no_proposals_from_a_head_before_its_second(
    head: Eagle3Head, draft_model: Transformer, target_model: Transformer
) -> None:
    drafter = fresh("eagle3", draft_model, head)
    target = Target(target_model, 2, CAPACITY, drafter.taps)
    drafter.attach(target.cache)
    for row, text in enumerate([[7], [3, 1, 4]]):
        target.prefill(row, text)
        drafter.admit(row, text)
    forest = Forest.roots(np.array([7, 4]))
    children = drafter.expand(forest, forest.frontier)
    assert set(children.parent.tolist()) == {1}


def test_nodes_without_a_slot_get_no_children(
    made: ModelDrafter, target_model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartprof.drafters.model_drafter.TREE_SLOTS", 5)
    play = Play(target_model, made, 2, 0)
    forest = _roots(play)
    forest = forest.extend(forest.frontier, made.expand(forest, forest.frontier))
    nodes = forest.frontier
    wanted = np.bincount(forest.request[nodes])
    assert wanted.max() > 5
    children = made.expand(forest, nodes)
    answered = np.bincount(forest.request[np.unique(children.parent)])
    assert answered.tolist() == np.minimum(wanted, 5).tolist()


def test_proposals_keep_the_promises_of_children(
    made: ModelDrafter, target_model: Transformer
) -> None:
    play = Play(target_model, made, 4, 3)
    for _ in range(3):
        forest, proposed = play.draft(4)
        for children in proposed.values():
            Children.checked(children.parent, children.token, children.conditional)
        play.commit(forest)


def _observed(confidence: Confidence, trust: float, count: int = 20000) -> NDArray[np.float64]:
    """Nodes with three children each, which are right `trust` times as often as they say."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        probability = rng.dirichlet([1.0, 1.0, 1.0, 1.0])[:3]
        picked = rng.random()
        right = np.zeros(3, np.bool_)
        below = (trust * probability).cumsum()
        if picked < below[-1]:
            right[int(np.searchsorted(below, picked))] = True
        confidence.observe(probability, right)
    return np.array([0.05, 0.25, 0.4, 0.7])


@pytest.mark.parametrize("trust", [0.3, 0.6, 1.0])
def test_confidence_learns_how_often_the_model_is_right(trust: float) -> None:
    confidence = Confidence()
    said = _observed(confidence, trust)
    found = confidence.calibrated(np.arange(4), said)
    assert found == pytest.approx(trust * said, rel=0.2)


def test_frozen_confidence_believes_the_model() -> None:
    confidence = Confidence()
    confidence.freeze()
    said = _observed(confidence, 0.3)
    assert confidence.calibrated(np.arange(4), said) == pytest.approx(said)


def test_siblings_never_sum_to_more_than_one_however_good_the_model_was() -> None:
    confidence = Confidence()
    for _ in range(200):  # always right with what it found hardly likely
        confidence.observe(np.array([0.15, 0.05]), np.array([True, False]))
    parent = np.repeat([0, 1], 5)
    found = confidence.calibrated(parent, np.array([0.15] * 5 + [0.12, 0.6, 0.1, 0.05, 0.02]))
    sums = np.bincount(parent, found)
    assert sums.max() <= MOST + 1e-12
    assert sums[0] == pytest.approx(MOST)

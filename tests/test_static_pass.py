"""Static passes on the CPU, where recording is left out: everything else is what a GPU runs."""

from __future__ import annotations

import gc
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from smartprof.decode.requests import Request
from smartprof.decode.rounds import Decoder
from smartprof.decode.run import Lane, run_lanes
from smartprof.decode.target import Target
from smartprof.drafters.ngram import NgramDrafter
from smartprof.errors import InputError
from smartprof.models import runners
from smartprof.models.cache import KVCache
from smartprof.models.execution import (
    EAGER,
    Execution,
    choose_execution,
    model_pass,
    open_execution,
    probe,
)
from smartprof.models.inputs import PackedInput, Tokens
from smartprof.models.runners import CapturePool, GraphRunner
from smartprof.models.shapes import named_shape
from smartprof.models.static_pass import StaticInputs
from smartprof.models.transfer import joined, split
from smartprof.models.transformer import Transformer
from smartprof.models.weights import load_weights, random_weights
from smartprof.policies.table import make_policy
from smartprof.trees.packed import PackedTrees, pack
from tests.costs import TableCosts, line
from tests.families import FAMILIES, write_family
from tests.forests import random_forest

TINY = named_shape("tiny-llama")
CPU = torch.device("cpu")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
TOLERANCE = {"cpu": 1e-5, "cuda": 1e-3}
CAPACITY = 450

Say = Callable[[str], None]


def unrecorded(run: Callable[[], None]) -> Callable[[], None]:
    """What recording does on the way, without recording."""
    for _ in range(2):
        run()
    return run


def static_execution(say: Say = pytest.fail, exact_rows: bool = False) -> Execution:
    return Execution(CapturePool(unrecorded, say), exact_rows)


def graph_execution(model: Transformer) -> Execution:
    """Graphs where there is a GPU, and static passes without recording elsewhere."""
    if model.device.type == "cuda":
        return open_execution("cuda_graph", model, pytest.fail)
    return static_execution()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny products gain nothing from threads that wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(device: str = "cpu") -> Transformer:
    weights = random_weights(TINY, 3, torch.float32, device)
    loud = {x: y if x.endswith("norm.weight") else y * 6 for x, y in weights.items()}
    return Transformer(TINY, loud, prepack=False)


@pytest.fixture(scope="module", params=DEVICES)
def model(request: pytest.FixtureRequest) -> Transformer:
    return tiny(request.param)


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    """A model whose window is shorter than the contexts of these tests."""
    family = next(x for x in FAMILIES if "sliding_window" in x.changes)
    folder = tmp_path_factory.mktemp("windowed")
    write_family(family, folder)
    return Transformer(*load_weights(folder, torch.float32, "cpu"), prepack=False)


def random_trees(rng: np.random.Generator, batch: int, vocab: int) -> PackedTrees:
    forest = random_forest(rng, batch, int(rng.integers(0, 30)), vocab=min(vocab, 50))
    return pack(forest, np.arange(batch, forest.size))


def random_target(model: Transformer, batch: int, execution: Execution | None = None) -> Target:
    """A target whose cache looks as after long prompts; the same for the same batch."""
    target = Target(model, batch, CAPACITY - 2, (), execution or EAGER)
    generator = torch.Generator().manual_seed(batch)
    shape = (*target.cache.data.shape[:3], batch, 449, model.shape.head_dim)
    filling = torch.randn(shape, generator=generator) * 0.5
    by_request = target.cache.data.unflatten(3, (batch, target.cache.columns))
    by_request[..., :449, :] = filling.to(target.cache.device)
    return target


def check(model: Transformer, execution: Execution, batch: int, rounds: int) -> None:
    """Random trees behind random contexts: the same logits, the same choice, the same cache."""
    rng, tolerance = np.random.default_rng(batch), TOLERANCE[model.device.type]
    eager, static = random_target(model, batch), random_target(model, batch, execution)
    for _ in range(rounds):
        rows = batch if execution.exact_rows else int(rng.integers(1, batch + 1))
        trees = random_trees(rng, rows, model.shape.vocab)
        edges = np.array([1, 2, 220, 255, 256, 257, 383, 384, 400])
        context_lens = np.minimum(rng.choice(edges, rows), CAPACITY - 40)
        pad_to = len(trees.token) + int(rng.integers(0, 9))
        expected = eager.scores(trees, context_lens)
        found = static.scores(trees, context_lens)
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
        choice = static.verify(trees, context_lens, pad_to)
        np.testing.assert_array_equal(choice, expected.argmax(-1).cpu().numpy())
    by_request = [
        x.cache.data.unflatten(3, (batch, x.cache.columns))[..., :440, :] for x in (eager, static)
    ]
    torch.testing.assert_close(*by_request, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8])
def test_a_static_pass_gives_the_logits_and_the_cache_of_an_eager_one(
    model: Transformer, batch: int
) -> None:
    check(model, graph_execution(model), batch, rounds=8)


def test_so_it_does_with_every_batch_captured_by_itself(model: Transformer) -> None:
    check(model, replace(graph_execution(model), exact_rows=True), 3, rounds=8)


@pytest.mark.parametrize("batch", [1, 4])
def test_in_bfloat16_the_logits_agree_to_its_precision(batch: int) -> None:
    weights = {x: y.bfloat16() for x, y in random_weights(TINY, 3, torch.float32, "cpu").items()}
    model, rng = Transformer(TINY, weights), np.random.default_rng(0)
    eager = random_target(model, batch)
    static = random_target(model, batch, static_execution())
    for context in (1, 200, 390):
        trees = random_trees(rng, batch, 50)
        found, expected = (x.scores(trees, np.full(batch, context)) for x in (static, eager))
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("batch", [1, 4])
def test_so_it_does_with_a_sliding_window(windowed: Transformer, batch: int) -> None:
    assert windowed.shape.window is not None
    check(windowed, static_execution(), batch, rounds=8)


@pytest.mark.parametrize(
    "name", ["tokens", "positions", "entries", "before", "gather", "scatter", "inside"]
)
def test_an_input_left_from_the_pass_before_would_be_noticed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: one input keeps what the first pass of its shape wrote."""
    send = StaticInputs._send
    seen: set[StaticInputs] = set()

    def stale(self: StaticInputs) -> None:
        old = self._device[name].clone() if name in self._device else None
        send(self)
        if old is not None and self in seen:
            self._device[name].copy_(old)
        seen.add(self)

    monkeypatch.setattr(StaticInputs, "_send", stale)
    with pytest.raises(AssertionError):
        check(tiny(), static_execution(), 3, rounds=12)


def test_a_shape_is_captured_once_and_shapes_differ_by_tokens_and_context() -> None:
    captures = []

    def counting(run: Callable[[], None]) -> Callable[[], None]:
        captures.append(run)
        return unrecorded(run)

    target = random_target(tiny(), 2, Execution(CapturePool(counting, pytest.fail)))
    trees = random_trees(np.random.default_rng(0), 2, 50)
    for context in (3, 9, 100, 3):
        target.scores(trees, np.array([context, context]))
    assert len(captures) == 1
    target.scores(trees, np.array([300, 3]))
    assert len(captures) == 2
    target.verify(trees, np.array([300, 3]), len(trees.token) + 40)
    assert len(captures) == 3


def test_one_transfer_fills_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    target = random_target(tiny(), 2, static_execution())
    trees = random_trees(np.random.default_rng(0), 2, 50)
    target.scores(trees, np.array([3, 9]))
    copies = []
    copy = torch.Tensor.copy_

    def counting(self: torch.Tensor, source: torch.Tensor, *rest: bool, **more: bool) -> object:
        if self.dtype == torch.uint8:
            copies.append(source)
        return copy(self, source, *rest, **more)

    monkeypatch.setattr(torch.Tensor, "copy_", counting)
    monkeypatch.setattr(torch.Tensor, "to", lambda *_, **__: pytest.fail("another transfer"))
    target.scores(trees, np.array([7, 4]))
    assert len(copies) == 1


def test_results_of_all_targets_lie_in_one_buffer_and_those_of_a_draft_in_another() -> None:
    execution = static_execution()
    model, trees = tiny(), random_trees(np.random.default_rng(0), 2, 50)
    lanes = [random_target(model, 2, execution) for _ in range(2)]
    first, second = (x.scores(trees, np.array([5, 5])).data_ptr() for x in lanes)
    assert first == second
    cache = KVCache(TINY, 2, 63, torch.float32, CPU)
    draft = execution.runner(model_pass(model, cache), cache, model.layout, "draft")
    assert draft.run(drafted(np.random.default_rng(0)), 1)[0].data_ptr() != first


def test_captured_passes_and_their_cache_go_with_their_target() -> None:
    execution = static_execution()
    model, trees = tiny(), random_trees(np.random.default_rng(0), 2, 50)
    gc.collect()
    gc.disable()  # by reference counts alone: a collection may be far away
    try:
        target = random_target(model, 2, execution)
        target.scores(trees, np.array([5, 5]))
        cache = weakref.ref(target.cache)
        del target
        assert cache() is None
    finally:
        gc.enable()


def test_the_pass_not_used_for_longest_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "MOST_CAPTURED", 3)
    execution, model = static_execution(), tiny()
    one, other = (random_target(model, x, execution) for x in (1, 2))
    assert isinstance(one.runner, GraphRunner)
    assert isinstance(other.runner, GraphRunner)
    trees = {x: random_trees(np.random.default_rng(0), x, 50) for x in (1, 2)}
    one.scores(trees[1], np.array([5]))
    other.scores(trees[2], np.array([5, 5]))
    other.scores(trees[2], np.array([5, 300]))
    one.scores(trees[1], np.array([6]))
    one.scores(trees[1], np.array([300]))
    assert sorted(x.context for x in one.runner.captured) == [256, 384]
    assert [x.context for x in other.runner.captured] == [384]
    check(model, execution, 3, rounds=8)


def failing_after(count: int) -> Callable[[Callable[[], None]], Callable[[], None]]:
    left = iter(range(count))

    def capture(run: Callable[[], None]) -> Callable[[], None]:
        if next(left, None) is not None:
            return unrecorded(run)
        try:
            raise RuntimeError("operation not permitted when stream is capturing.\nmore\nlines")
        finally:
            raise RuntimeError("the end of the recording fails, too")

    return capture


@pytest.mark.parametrize("count", [0, 2])
def test_a_capture_that_fails_is_said_once_and_passes_run_eagerly(count: int) -> None:
    said: list[str] = []
    execution = Execution(CapturePool(failing_after(count), said.append))
    assert execution.name == "cuda_graph"
    check(tiny(), execution, 3, rounds=8)
    assert len(said) == 1
    assert "\n" not in said[0]
    assert "(operation not permitted when stream is capturing): passes run eagerly" in said[0]
    assert (execution.name, execution.capture_sizes) == ("eager", [])


def test_a_probe_finds_out_before_anything_is_decoded() -> None:
    said: list[str] = []
    good, bad = static_execution(), Execution(CapturePool(failing_after(0), said.append))
    for execution in (good, bad):
        probe(tiny(), execution)
    assert (good.name, bad.name, len(said)) == ("cuda_graph", "eager", 1)


def test_what_no_shape_holds_runs_eagerly() -> None:
    execution, model = static_execution(), tiny()
    target = random_target(model, 2, execution)
    assert isinstance(target.runner, GraphRunner)
    trees = random_trees(np.random.default_rng(0), 2, 50)
    expected = random_target(model, 2).scores(trees, np.array([5, 9]))
    target.verify(trees, np.array([5, 9]), 600)
    assert not target.runner.captured
    torch.testing.assert_close(target.scores(trees, np.array([5, 9])), expected)


def test_the_clock_of_a_run_stands_still_while_a_pass_is_captured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]

    def slow(run: Callable[[], None]) -> Callable[[], None]:
        now[0] += 30.0
        return unrecorded(run)

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    execution = Execution(CapturePool(slow, pytest.fail))
    start = execution.clock()
    target = random_target(tiny(), 1, execution)
    target.scores(random_trees(np.random.default_rng(0), 1, 50), np.array([5]))
    assert execution.clock() == start
    now[0] += 2.0
    assert execution.clock() == start + 2.0


def test_a_table_that_a_captured_pass_reads_outlives_a_longer_one() -> None:
    model = tiny()
    random_target(model, 1).prefill(0, [1, 2, 3])
    table = model._rotations
    Target(model, 1, 900).prefill(0, [1, 2, 3])
    assert len(model._rotations) > len(table)
    assert any(x is table for x in model._outgrown)


def drafted(rng: np.random.Generator) -> Tokens:
    """A draft step: two requests whose new tokens see earlier drafted ones, not in order."""
    counts, span = np.array([3, 2]), 6
    request = np.repeat([0, 1], counts)
    place = np.array([0, 1, 2, 0, 1])
    before = np.array([20, 11])
    inside = rng.random((2, 3, span)) < 0.5
    inside[np.arange(2)[:, None], np.arange(3), 3 + np.arange(3)] = True  # itself
    return Tokens(
        token=rng.integers(0, TINY.vocab, 5),
        request=request,
        position=before[request] + 2,
        slot=before[request] + 3 + place,
        counts=counts,
        before=before,
        inside=inside,
        inside_position=before[:, None] + np.arange(span) // 2,
    )


def test_a_draft_model_steps_in_static_passes_as_it_does_eagerly(model: Transformer) -> None:
    """Any function of a pass can be captured: here the best continuations and their shares."""

    def step(cache: KVCache) -> Callable[[PackedInput], tuple[torch.Tensor, ...]]:
        def best(batch: PackedInput) -> tuple[torch.Tensor, ...]:
            top = model.logits(model.forward(batch, cache)).log_softmax(-1).topk(4)
            return top.values, top.indices

        return best

    rng, tolerance = np.random.default_rng(0), TOLERANCE[model.device.type]
    caches = [KVCache(model.shape, 2, 63, model.dtype, model.device) for _ in range(2)]
    for cache in caches:
        cache.data.copy_(torch.randn(cache.data.shape, generator=torch.Generator().manual_seed(0)))
    executions = [EAGER, graph_execution(model)]
    eager, static = (
        x.runner(step(y), y, model.layout, "draft") for x, y in zip(executions, caches, strict=True)
    )
    for _ in range(5):
        tokens = drafted(rng)
        expected, found = eager.run(tokens, 1), static.run(tokens, 7)
        torch.testing.assert_close(found[0][:5], expected[0][:5], atol=tolerance, rtol=tolerance)
        assert torch.equal(found[1][:5], expected[1][:5])


@pytest.mark.parametrize("policy", ["plain", "chain:k=3"])
def test_decoding_in_static_passes_yields_the_tokens_of_eager_decoding(policy: str) -> None:
    model = tiny()
    outputs = [decoded(model, policy, x) for x in (EAGER, static_execution())]
    assert outputs[0] == outputs[1]


def decoded(model: Transformer, policy: str, execution: Execution) -> list[list[int]]:
    """Outputs of four requests at batch 3, with one that is refilled and batches that shrink."""
    target = Target(model, 3, 120, (), execution)
    costs = TableCosts(line(1.0, 0.01), line(0.01, 0.001))
    decoder = Decoder(target, NgramDrafter(), make_policy(policy), costs, frozenset())
    phrases = [[7, 3, 9], [4, 4, 8, 1], [2], [11, 12]]
    requests = [
        Request(f"p{x}", "test", "test", tuple(y * 4), 12 + x) for x, y in enumerate(phrases)
    ]
    lane = Lane("test", decoder, 3, deque(enumerate(requests)))
    run_lanes([lane], lambda _: None)
    return [x.output for x in sorted(lane.finished, key=lambda x: x.index)]


def test_an_execution_that_cannot_be_is_refused_in_one_line() -> None:
    assert choose_execution("auto", "cpu") == "eager"
    assert choose_execution("auto", "cuda") == "cuda_graph"
    assert choose_execution("eager", "cuda") == "eager"
    with pytest.raises(InputError, match="needs a GPU, the device is a cpu: use --execution eager"):
        choose_execution("cuda_graph", "cpu")
    with pytest.raises(InputError, match="expected --execution auto, eager or cuda_graph, got 'x'"):
        choose_execution("x", "cpu")


def test_index_arrays_joined_for_one_transfer_come_apart_as_they_were() -> None:
    arrays = [np.arange(3), np.zeros(0, np.int64), np.array([7])]
    parts = split(joined(arrays, pin=False), arrays)
    assert [x.tolist() for x in parts] == [x.tolist() for x in arrays]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_operator_that_waits_for_the_gpu_cannot_be_captured_and_runs_eagerly() -> None:
    model, said = tiny("cuda"), []
    execution = open_execution("cuda_graph", model, said.append)
    assert (execution.name, said) == ("cuda_graph", [])
    cache = KVCache(TINY, 2, 63, model.dtype, model.device)
    stream = torch.cuda.current_stream()

    def waiting(batch: PackedInput) -> tuple[torch.Tensor, ...]:
        hidden = model.forward(batch, cache)
        return (hidden * float(hidden.abs().max()),)

    runner = execution.runner(waiting, cache, model.layout, "waiting")
    tokens = drafted(np.random.default_rng(0))
    expected = EAGER.runner(waiting, cache, model.layout, "waiting").run(tokens, 5)
    torch.testing.assert_close(runner.run(tokens, 5)[0][:5], expected[0][:5])
    assert len(said) == 1
    assert execution.name == "eager"
    assert torch.cuda.current_stream() == stream

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from smartprof import __version__, device
from smartprof.calibrate import schedule, sweep
from smartprof.calibrate.plan import QUANTITIES, Plan, Point
from smartprof.calibrate.run import Calibration, Step, open_journal, prepare, run
from smartprof.calibrate.schedule import MIN_SAMPLES
from smartprof.calibrate.stopping import StoppingRule
from smartprof.calibrate.synthetic import EvenDrafter, FlatCosts, WidenedDrafter
from smartprof.device import resolve_device
from smartprof.drafters.ngram import NgramDrafter
from smartprof.drafters.table import choose_drafter, drafter_maker
from smartprof.errors import DeviceError, InputError, ProfileError, SmartprofError
from smartprof.models.buckets import CAPTURE_SIZES
from smartprof.models.execution import Execution
from smartprof.models.loading import load_model
from smartprof.models.runners import Capture, CapturePool
from smartprof.policies.base import Outcome, Round
from smartprof.policies.smart import Smart, SmartOptions
from smartprof.profile.cost import CostModel
from smartprof.profile.files import load_profile, save_profile
from smartprof.profile.schema import Profile, Surface
from smartprof.trees.forest import Forest
from tests.profiles import assert_sound
from tests.visits import totals

BUDGET = 1.0


@pytest.fixture(scope="module", autouse=True)
def hurry() -> Iterator[None]:
    """The fewest samples a visit, and no threads that wait for each other on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "physical_cores", lambda: 1)
        patch.setattr(schedule, "VERIFY_SECONDS", 0.0)
        patch.setattr(schedule, "DRAFT_SECONDS", 0.0)
        patch.setattr(schedule, "WARM_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def prepared() -> Calibration:
    found = resolve_device("cpu")
    model = load_model("shape:tiny-llama", found)
    return prepare(found, model, NgramDrafter(), "quick", BUDGET, "smartprof calibrate")


@dataclass(frozen=True)
class Finished:
    """A whole calibration and every step that it reported."""

    profile: Profile
    steps: list[Step]
    plan: Plan


@pytest.fixture(scope="module")
def finished(prepared: Calibration, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    steps: list[Step] = []
    journal = open_journal(prepared, tmp_path_factory.mktemp("whole") / "p.json")
    profile = run(prepared, journal, [], steps.append)
    return Finished(profile, steps, prepared.plan)


def surfaces(profile: Profile) -> dict[str, Surface]:
    drafter = profile.drafters["ngram"]
    return {
        "verify": profile.verify,
        "plain_decode": profile.plain_decode,
        "round_overhead": profile.round_overhead,
        "draft_step": drafter.draft_step,
        "draft_catchup": drafter.draft_catchup,
    }


def test_every_planned_point_is_an_anchor_of_its_quantity(finished: Finished) -> None:
    for quantity, surface in surfaces(finished.profile).items():
        planned = {
            (None if quantity == "plain_decode" else x.batch, x.size)
            for x in finished.plan.fitted
            if x.quantity == quantity
        }
        anchors = {(x.batch, x.size) for x in surface.anchors}
        # Verify curves may have been refined.
        assert anchors >= planned if quantity == "verify" else anchors == planned, quantity
        assert min(x.samples for x in surface.anchors) >= MIN_SAMPLES


def test_the_profile_answers_exactly_at_its_anchors_and_everywhere_else(finished: Finished) -> None:
    assert_sound(finished.profile)


def test_held_out_passes_are_measured_and_judged(finished: Finished) -> None:
    quality = finished.profile.quality
    held_out = {(x.batch, x.size, x.context) for x in finished.plan.held_out}
    assert {(x.batch, x.size, x.context) for x in quality.points} == held_out
    assert quality.held_out.count == len(held_out) == 10
    assert quality.held_out.mean_abs_pct is not None
    fitted = {(x.batch, x.size, x.context) for x in finished.profile.verify.anchors}
    assert not held_out & fitted
    assert quality.noise_floor_pct is not None
    by_size = list(quality.strata.values())[:3]
    assert sum(x.count for x in by_size) == 10


def test_what_was_left_out_is_a_warning(finished: Finished) -> None:
    assert "left out: context 1024: the model ends at 512" in finished.profile.quality.warnings


def test_the_profile_says_what_it_is_valid_for_and_how_it_was_made(finished: Finished) -> None:
    key = finished.profile.key
    assert (key.device.kind, key.device.threads) == ("cpu", 1)
    assert (key.target.name, key.dtype, key.execution) == ("tiny-llama", "float32", "eager")
    assert key.software.smartprof == __version__
    provenance = finished.profile.provenance
    assert (provenance.kind, provenance.command) == ("measured", "smartprof calibrate")


def test_every_shape_and_repetition_is_counted(finished: Finished) -> None:
    quality = finished.profile.quality
    points = finished.plan.fitted + finished.plan.held_out
    assert quality.shapes == len({x.point for x in finished.steps} | set(points)) >= len(points)
    in_anchors = sum(x.samples for s in surfaces(finished.profile).values() for x in s.anchors)
    assert quality.forwards == in_anchors + sum(x.samples for x in quality.points)


def test_progress_names_the_shape_and_counts_visits(finished: Finished) -> None:
    assert [x.visits for x in finished.steps] == list(range(1, len(finished.steps) + 1))
    assert {x.point.quantity for x in finished.steps} == set(QUANTITIES)
    elapsed = [x.elapsed_seconds for x in finished.steps]
    assert elapsed == sorted(elapsed)
    assert {x.budget_seconds for x in finished.steps} == {BUDGET}


def test_points_are_visited_in_random_order(finished: Finished) -> None:
    first = [x.point for x in finished.steps[:40]]
    assert first != sorted(first)
    assert len({x.quantity for x in first}) > 2


def test_a_saved_profile_is_loaded_as_it_was(finished: Finished, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    saved = save_profile(finished.profile, path)
    assert load_profile(path) == saved
    assert saved == finished.profile.model_copy(update={"checksum": saved.checksum})
    assert json.loads(path.read_text())["checksum"] == saved.checksum
    with pytest.raises(SmartprofError):
        save_profile(finished.profile, path)


@pytest.fixture
def small(prepared: Calibration) -> Calibration:
    """All five quantities at two batches and few sizes; no time for a second visit."""
    fitted = tuple(x for x in prepared.plan.fitted if x.batch <= 4 and x.size <= 16)
    held_out = (Point("verify", 2, 7, 64), Point("verify", 3, 11, 64))
    plan = replace(prepared.plan, fitted=fitted, held_out=held_out)
    return replace(prepared, plan=plan, budget_seconds=0.0)


def test_an_interrupted_calibration_resumes_with_all_that_was_measured(
    small: Calibration, tmp_path: Path
) -> None:
    out = tmp_path / "p.json"

    def interrupt(step: Step) -> None:
        if step.visits == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(small, open_journal(small, out), [], interrupt)
    visits = open_journal(small, out).read()
    known = totals(visits)
    assert len(known) == 9
    steps: list[Step] = []
    profile = run(small, open_journal(small, out), visits, steps.append)
    everything = set(small.plan.fitted + small.plan.held_out)
    assert {x.point for x in steps} == everything - set(known)
    assert len(steps) == len(everything) - 9  # nothing is measured twice without need
    total = totals(open_journal(small, out).read())
    for point, samples in known.items():
        assert total[point] == samples
    assert profile.quality.forwards == sum(len(x) for x in total.values())
    for anchor in profile.verify.anchors:
        assert anchor.batch is not None
        assert anchor.context is not None
        point = Point("verify", anchor.batch, anchor.size, anchor.context)
        assert anchor.samples == len(total[point])


def test_an_interrupt_while_a_shape_runs_loses_that_visit_alone(
    small: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "p.json"
    calls = iter(range(100))

    def interrupted(*_: object, **__: object) -> list[float]:
        if next(calls) == 4:
            raise KeyboardInterrupt
        return [0.001, 0.002, 0.003]

    monkeypatch.setattr(schedule, "visit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(small, open_journal(small, out), [], lambda _: None)
    known = open_journal(small, out).read()
    assert [x.samples for x in known] == [(0.001, 0.002, 0.003)] * 4


def test_the_unfinished_run_of_another_mode_is_not_continued(
    small: Calibration, tmp_path: Path
) -> None:
    out = tmp_path / "p.json"
    open_journal(small, out).start()
    other = replace(small, plan=replace(small.plan, mode=replace(small.plan.mode, name="full")))
    with pytest.raises(SmartprofError) as error:
        open_journal(other, out).read()
    assert "--fresh" in str(error.value)


def test_with_time_left_every_point_gets_its_visits_before_any_gets_more(
    small: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "visit", lambda *_, **__: [0.002, 0.0021])
    visits: Counter[Point] = Counter()

    def count(step: Step) -> None:
        visits[step.point] += 1
        if step.point == small.plan.sentinel:
            return
        if visits[step.point] > schedule.visits_of(step.point):
            raise KeyboardInterrupt

    patient = replace(small, budget_seconds=600.0)
    with pytest.raises(KeyboardInterrupt):
        run(patient, open_journal(small, tmp_path / "p.json"), [], count)
    assert set(visits) == set(small.plan.fitted + small.plan.held_out)
    missed = [x for x, y in visits.items() if y < schedule.visits_of(x)]
    assert missed == []


def test_a_settled_calibration_ends_before_its_budget(
    small: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "visit", lambda *_, **__: [0.002] * StoppingRule.least)
    steps: list[Step] = []
    patient = replace(small, budget_seconds=600.0)
    run(patient, open_journal(small, tmp_path / "p.json"), [], steps.append)
    visits = Counter(x.point for x in steps)
    del visits[small.plan.sentinel]
    assert {x: y for x, y in visits.items() if y != schedule.visits_of(x)} == {}


def _static(prepared: Calibration, capture: Capture) -> Calibration:
    """The smallest calibration by static passes, at both sides of a capture size."""
    execution = Execution(CapturePool(capture, lambda _: None))
    planned = prepare(
        prepared.device, prepared.model, prepared.drafter, "quick", 0.0, "test", execution
    )
    fitted = tuple(x for x in planned.plan.fitted if x.batch == 1 and x.size <= 17)
    plan = replace(planned.plan, fitted=fitted, held_out=(Point("verify", 1, 7, 64),))
    return replace(planned, plan=plan)


def test_a_calibration_of_captured_passes_says_so_and_measures_both_sides_of_their_sizes(
    prepared: Calibration, tmp_path: Path
) -> None:
    static = _static(prepared, lambda run: run)
    profile = run(static, open_journal(static, tmp_path / "p.json"), [], lambda _: None)
    assert profile.key.execution == "cuda_graph"
    assert profile.key.capture_sizes == list(CAPTURE_SIZES)
    assert {16, 17} <= {x.size for x in profile.verify.anchors}
    assert_sound(profile)


def test_a_calibration_never_mixes_captured_passes_with_others(
    prepared: Calibration, tmp_path: Path
) -> None:
    left = iter(range(2))

    def capture(run: Callable[[], None]) -> Callable[[], None]:
        if next(left, None) is None:
            raise RuntimeError("out of memory")
        run()
        return run

    static = _static(prepared, capture)
    with pytest.raises(DeviceError, match=r"cuda_graph, got one that cannot.* --execution eager"):
        run(static, open_journal(static, tmp_path / "p.json"), [], lambda _: None)


def test_a_drafter_of_two_sources_has_both_priced(tmp_path: Path) -> None:
    found = resolve_device("cpu")
    model = load_model("shape:tiny-llama", found)
    drafter = drafter_maker(choose_drafter("hybrid:shape:tiny-llama", "shape:tiny-llama"), model)()
    calibration = prepare(found, model, drafter, "quick", BUDGET, "smartprof calibrate")
    profile = run(calibration, open_journal(calibration, tmp_path / "p.json"), [], lambda _: None)
    assert list(profile.drafters) == ["ngram", "hybrid"]
    lookup, both = profile.drafters["ngram"], profile.drafters["hybrid"]
    assert (lookup.digest, lookup.kind) == (NgramDrafter().digest, "ngram")
    assert (both.digest, both.kind) == (drafter.digest, "hybrid")
    costs = CostModel(profile, "hybrid")
    for batch in (1, 4, 16):  # a pass of the model takes longer than a lookup, whatever the noise
        assert costs.draft_step(batch, 1, 64) > costs.source("ngram").draft_step(batch, 1, 64)
    assert costs.verify(4, 8, 64) == costs.source("ngram").verify(4, 8, 64)
    with pytest.raises(ProfileError, match="eagle3"):
        costs.source("eagle3")


@pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (1, 2), (1, 200), (3, 7), (4, 4), (16, 64)])
def test_the_overhead_of_a_round_is_that_of_smart_verifying_all_its_tokens(
    batch: int, tokens: int
) -> None:
    policy = Smart(SmartOptions(depth=1, limit=sweep.MOST_DRAFTED, most=max(2, tokens)))
    forest = Forest.roots(np.arange(batch))
    for _ in range(3):  # what it learns of useless drafts changes nothing
        state = Round(forest, np.full(batch, 64), np.full(batch, 64), FlatCosts(), 1.0, 0.0)
        roots = policy.grow(state)
        assert roots.tolist() == list(range(batch))
        grown = forest.extend(roots, EvenDrafter(tokens).expand(forest, roots))
        state = replace(state, forest=grown)
        assert policy.grow(state).size == 0
        cut = policy.cut(state)
        assert cut.pad_to == tokens == batch + len(cut.nodes)
        nothing = np.zeros(grown.size, np.bool_)
        policy.observe(Outcome(np.ones(batch, np.int64), 1.0, True, grown, cut, nothing))


def test_a_widened_drafter_adds_words_that_were_not_proposed_until_enough_are_open() -> None:
    inner = NgramDrafter()
    for row in range(2):
        inner.admit(row, [5, 6, 7, 5, 6])
    forest = Forest.roots(np.array([6, 6]))
    own = inner.expand(forest, forest.frontier)
    assert len(own.parent) > 0
    wide = WidenedDrafter(inner, 9, [7, 7, 8, 9, 10, 11])
    children = wide.expand(forest, forest.frontier)
    pairs = list(zip(children.parent.tolist(), children.token.tolist(), strict=True))
    assert len(pairs) == len(set(pairs)) == 9
    assert pairs[: len(own.parent)] == list(zip(own.parent, own.token, strict=True))
    assert {x for _, x in pairs[len(own.parent) :]} <= {7, 8, 9, 10, 11}
    for parent in (0, 1):
        assert children.conditional[children.parent == parent].sum() <= 1 + 1e-12
    grown = forest.extend(forest.frontier, children)
    deeper = wide.expand(grown, grown.frontier[:3])
    assert len(deeper.parent) == len(inner.expand(grown, grown.frontier[:3]).parent)
    with pytest.raises(InputError, match="expected 9 distinct draft nodes at batch 2"):
        WidenedDrafter(inner, 9, [7, 8]).expand(forest, forest.frontier)


def test_two_sweeps_visit_every_point_twice_over_in_other_orders(
    small: Calibration, tmp_path: Path
) -> None:
    twice = replace(small, sweeps=2)
    steps: list[Step] = []
    journal = open_journal(twice, tmp_path / "p.json")
    profile = run(twice, journal, [], steps.append)
    points = small.plan.fitted + small.plan.held_out
    first, second = steps[: len(points)], steps[len(points) :]
    assert {x.point for x in first} == {x.point for x in second} == set(points)
    assert [x.point for x in first] != [x.point for x in second]
    quality = profile.quality
    assert quality.repeatability is not None
    assert quality.repeatability.shapes == len(points)
    assert quality.outliers is not None and quality.drifts == 0  # no time to look for any
    kept = [totals(x.read()) for x in (journal, journal.second())]
    assert quality.forwards == sum(len(y) for x in kept for y in x.values())
    journal.discard()
    assert list(tmp_path.iterdir()) == []

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from smartprof.errors import DomainError, InputError, ProfileError
from smartprof.profile.blend_cache import LONGEST_TABLE
from smartprof.profile.cost import CostModel
from smartprof.profile.envelope import pad_up
from smartprof.profile.surface import SurfaceEvaluator
from tests.profiles import make_profile, make_surface


def _varied(batch: int, size: int, context: int) -> float:
    return 0.01 + 1e-4 * size + 1e-3 * batch + 1e-6 * context * size


@pytest.fixture
def model() -> CostModel:
    profile = make_profile(
        _varied,
        overhead=lambda batch, size, context: 1e-3 + 1e-6 * size,
        draft_step=lambda batch, size, context: 2e-3 + 1e-6 * size,
        draft_catchup=lambda batch, size, context: 3e-3 + 1e-6 * size,
        contexts=(100, 333, 1000),
    )
    return CostModel(profile, "ngram")


def test_an_int_gives_a_float_and_an_array_an_array(model: CostModel) -> None:
    assert type(model.verify(4, 8, 100.0)) is float
    found = model.verify(4, np.arange(4, 9), 100.0)
    assert found.shape == (5,) and found.dtype == np.float64
    assert found[4] == model.verify(4, 8, 100.0)
    assert model.verify(4, np.array([], np.int64), 100.0).shape == (0,)


def test_every_method_answers_from_its_own_surface(model: CostModel) -> None:
    assert model.verify(4, 8, 100) == _varied(4, 8, 100)
    assert model.draft_step(4, 8, 100) == 2e-3 + 8e-6
    assert model.draft_catchup(4, 8, 100) == 3e-3 + 8e-6
    assert model.round_overhead(4, 8) == 1e-3 + 8e-6
    assert model.plain_decode(4, 100) == _varied(4, 4, 100) + 1e-3 + 4e-6


def test_policies_get_the_surface_at_the_nearest_multiple_of_16_tokens(model: CostModel) -> None:
    evaluator = SurfaceEvaluator(model.profile.verify)
    sizes = np.array([4, 7, 64, 128, 500])
    for context, near in ((200.4, 208), (195, 192), (950, 944), (1503.0, 1504), (40, 48)):
        np.testing.assert_array_equal(
            model.verify(4, sizes, context), evaluator.seconds(4, sizes, near)
        )


def test_measured_contexts_stay_exact_though_they_are_no_multiples_of_16(model: CostModel) -> None:
    for anchor in model.profile.verify.anchors:
        assert anchor.batch is not None and anchor.context is not None
        assert model.verify(anchor.batch, anchor.size, anchor.context) == anchor.seconds


def test_rounding_never_leaves_the_domain_or_what_is_answered(model: CostModel) -> None:
    evaluator = SurfaceEvaluator(model.profile.verify)
    assert model.verify(4, 8, 100.5) == evaluator.seconds(4, [8], 100)[0]
    assert model.verify(4, 8, 999) == evaluator.seconds(4, [8], 992)[0]
    assert model.verify(4, 8, 4000) == evaluator.seconds(4, [8], 4000)[0]
    with pytest.raises(DomainError, match="got 4001"):
        model.verify(4, 8, 4001)
    with pytest.raises(DomainError, match="context"):
        model.verify(4, 8, float("nan"))


def test_predict_and_plain_decoding_never_round(model: CostModel) -> None:
    verify = SurfaceEvaluator(model.profile.verify)
    plain = SurfaceEvaluator(model.profile.plain_decode)
    prediction = model.predict("verify", 3, 9, 201.3)
    assert prediction.seconds == verify.seconds(3, [9], 201.3)[0]
    assert (prediction.tier, prediction.ci_half_width) == ("interpolated", None)
    assert model.plain_decode(3, 201.3) == plain.seconds(None, [3], 201.3)[0]


def test_a_prediction_says_what_it_rests_on() -> None:
    profile = make_profile(_varied, half_width=0.01)
    found = CostModel(profile).predict("verify", 4, 16, 256)
    assert (found.tier, found.provenance, found.quantity) == ("exact", "measured", "verify")
    assert found.ci_half_width == pytest.approx(0.01 * _varied(4, 16, 256))
    assert CostModel(profile).predict("round_overhead", 4, 16, None).context is None
    assert CostModel(profile).predict("plain_decode", 4, 4, 256).tier == "exact"
    assert CostModel(profile).predict("verify", 4, 400, 256).tier == "extrapolated"


def test_the_order_of_questions_does_not_change_an_answer(model: CostModel) -> None:
    dice = Random(3)
    questions = [
        (dice.randint(1, 16), dice.randint(16, 512), dice.uniform(0, 4000)) for _ in range(600)
    ]
    first = [model.verify(*x) for x in questions]
    dice.shuffle(questions)
    again = dict(zip(questions, [model.verify(*x) for x in questions], strict=True))
    fresh = CostModel(model.profile)
    for question, seconds in again.items():
        assert fresh.verify(*question) == seconds
    assert sorted(first) == sorted(again.values())


def test_passes_longer_than_the_tables_are_answered_too() -> None:
    profile = make_profile(_varied, sizes=(1, 8, 64, 20_000))
    evaluator = SurfaceEvaluator(profile.verify)
    sizes = np.array([5, LONGEST_TABLE, LONGEST_TABLE + 1, 70_000])
    np.testing.assert_array_equal(
        CostModel(profile).verify(4, sizes, 256), evaluator.seconds(4, sizes, 256)
    )


def test_a_drafter_that_the_profile_lacks_is_refused_with_those_it_has() -> None:
    profile = make_profile(drafters=("ngram", "small"))
    with pytest.raises(ProfileError, match=r"'eagle'.*has ngram, small; calibrate with") as caught:
        CostModel(profile, "eagle")
    assert "\n" not in str(caught.value)


def test_draft_costs_without_a_drafter_are_refused() -> None:
    model = CostModel(make_profile())
    for ask in (model.draft_step, model.draft_catchup):
        with pytest.raises(ProfileError, match="expected a drafter, got none"):
            ask(4, 4, 256)
    with pytest.raises(ProfileError, match="expected a drafter"):
        model.predict("draft_step", 4, 4, 256)


def test_an_unknown_quantity_is_refused_with_the_known_ones(model: CostModel) -> None:
    with pytest.raises(InputError, match=r"verify, plain_decode.*got 'prefill'"):
        model.predict("prefill", 4, 4, 256)


def test_fewer_tokens_than_requests_are_refused(model: CostModel) -> None:
    with pytest.raises(DomainError, match="at least one token per request, 4 in all, got 3"):
        model.verify(4, 3, 256)
    with pytest.raises(DomainError, match="one token per request"):
        model.draft_catchup(4, np.array([8, 3]), 256)
    with pytest.raises(DomainError, match="one token per request"):
        model.predict("round_overhead", 4, 3, None)
    with pytest.raises(InputError, match="one token per request"):
        model.predict("plain_decode", 4, 8, 256)
    assert model.draft_step(4, 1, 256) > 0  # a step may expand nodes of one request only


def test_the_longest_pass_is_that_of_the_profile(model: CostModel) -> None:
    assert model.most_tokens == 128


def _brute_force(
    seconds: np.ndarray, widths: np.ndarray, count: int, significant: bool, reach: int
) -> tuple[list[float], list[int]]:
    """For each n the cheapest m >= n, straight from the definition; indices for tokens.

    reach: how many of the first m may be padded up to.
    """
    best, pads = [], []
    for n in range(count):
        allowed = [n]
        for m in range(n + 1, reach):
            dip = seconds[n] - seconds[m]
            if dip > (widths[n] + widths[m] if significant else 0.0):
                allowed.append(m)
        pad = min(allowed, key=lambda m: (seconds[m], m))
        best.append(seconds[pad])
        pads.append(pad)
    return best, pads


def _random_curve(dice: Random, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Slopes, stairs and dips in steps that floats hold exactly, so that ties are ties."""
    slope = dice.choice([0, 0, 1, 3, -2])
    seconds = np.array([64 + slope * x + dice.choice([0, 0, 1, 8, -8, 30]) for x in range(length)])
    widths = np.array([dice.choice([0, 0, 1, 2, 6]) for _ in range(length)])
    return np.maximum(seconds, 1) / 64, widths / 64


def test_the_envelope_is_what_brute_force_finds_on_random_curves() -> None:
    dice = Random(11)
    rejected = 0
    for _ in range(400):
        length = dice.randint(1, 30)
        seconds, widths = _random_curve(dice, length)
        count = dice.randint(1, length)
        first, reach = dice.randint(1, 5), dice.choice([length, dice.randint(0, length)])
        tokens = np.arange(first, first + length)
        found = pad_up(tokens, seconds, widths, count, longest=first + reach - 1)
        best, pads = _brute_force(seconds, widths, count, True, reach)
        assert found.seconds.tolist() == best
        assert found.pad_to.tolist() == [first + x for x in pads]
        assert found.tokens.tolist() == list(range(first, first + count))
        rejected += best != _brute_force(seconds, widths, count, False, reach)[0]
    assert rejected > 100  # the same test tells apart a rule that takes every dip


def _with_dip(half_width: float) -> CostModel:
    """64 tokens take 10 % less than 48, at every batch and context."""

    def dip(batch: int, size: int, context: int) -> float:
        return 0.02 + 0.001 * size - (0.0228 if size >= 64 else 0.0)

    sizes = (1, 2, 4, 8, 16, 48, 64, 128)
    return CostModel(make_profile(dip, sizes=sizes, half_width=half_width))


def test_a_dip_in_the_profile_is_padded_up_to() -> None:
    envelope = _with_dip(0.001).verify_envelope(4, 60, 256)
    assert envelope.tokens.tolist() == list(range(4, 61))
    assert envelope.pad_to[envelope.tokens == 48] == 64
    assert envelope.pad_to[envelope.tokens == 16] == 16
    assert np.all(envelope.pad_to >= envelope.tokens)


def test_a_dip_within_the_confidence_intervals_is_not_taken() -> None:
    envelope = _with_dip(0.10).verify_envelope(4, 60, 256)
    assert envelope.pad_to.tolist() == envelope.tokens.tolist()


@pytest.mark.parametrize("half_width", [0.0, 0.003, 0.03])
def test_the_envelope_of_a_profile_is_what_brute_force_finds(half_width: float) -> None:
    dice = Random(5)
    values: dict[tuple[int, int, int], float] = {}

    def noisy(batch: int, size: int, context: int) -> float:
        place = (batch, size, context)
        return values.setdefault(place, (0.02 + 0.0002 * size) * dice.uniform(0.9, 1.1))

    model = CostModel(make_profile(noisy, overhead=noisy, half_width=half_width))
    verify = SurfaceEvaluator(model.profile.verify)
    overhead = SurfaceEvaluator(model.profile.round_overhead)
    for batch, most, context in ((1, 1, 64), (3, 40, 160), (4, 128, 256), (8, 300, 2048)):
        tokens = np.arange(batch, max(most, 128) + 1)
        where = (batch, tokens, context)
        seconds = verify.seconds(*where) + overhead.seconds(*where)
        widths = np.hypot(verify.half_widths(*where), overhead.half_widths(*where))
        best, pads = _brute_force(seconds, widths, most - batch + 1, True, 128 - batch + 1)
        found = model.verify_envelope(batch, most, context)
        assert found.seconds.tolist() == best
        assert found.pad_to.tolist() == [int(tokens[x]) for x in pads]


def test_envelopes_are_made_once_per_16_tokens_of_context() -> None:
    model = CostModel(make_profile())
    assert model.verify_envelope(4, 60, 201.0) is model.verify_envelope(4, 60, 205.0)
    assert model.verify_envelope(4, 60, 201.0) is not model.verify_envelope(4, 60, 220.0)


def test_a_shared_envelope_cannot_be_written_to() -> None:
    envelope = CostModel(make_profile()).verify_envelope(4, 60, 200.0)
    with pytest.raises(ValueError, match="read-only"):
        envelope.seconds[0] = 0.0


def test_an_envelope_without_room_for_the_roots_is_refused() -> None:
    with pytest.raises(DomainError, match="one token per request, 4 in all, got 3"):
        CostModel(make_profile()).verify_envelope(4, 3, 256)


def test_an_overhead_measured_less_far_bounds_padding_but_not_the_question() -> None:
    profile = make_profile(sizes=(1, 8, 1000))
    overhead = make_surface("round_overhead", lambda b, s, c: 1e-3, sizes=(1, 8, 20))
    model = CostModel(profile.model_copy(update={"round_overhead": overhead}))
    assert model.verify_envelope(4, 70, 256).tokens[-1] == 70


@pytest.mark.parametrize("seed", range(10))
def test_the_envelope_does_not_depend_on_how_much_of_it_was_asked_for(seed: int) -> None:
    dice = Random(seed)
    profile = make_profile(lambda b, s, c: dice.uniform(0.02, 0.04), sizes=range(1, 65))
    last = dice.randint(30, 63)
    overhead = make_surface("round_overhead", lambda b, s, c: 1e-3, sizes=range(1, last + 1))
    profile = profile.model_copy(update={"round_overhead": overhead})
    whole = CostModel(profile).verify_envelope(4, 100, 200.0)
    assert (whole.pad_to > whole.tokens).any()
    assert (whole.pad_to <= np.maximum(whole.tokens, last)).all()
    for most in range(4, 100):
        part = CostModel(profile).verify_envelope(4, most, 200.0)
        assert part.seconds.tolist() == whole.seconds[: most - 3].tolist()
        assert part.pad_to.tolist() == whole.pad_to[: most - 3].tolist()

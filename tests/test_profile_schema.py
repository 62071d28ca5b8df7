from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from smartprof.profile.describe import first_error, shown
from smartprof.profile.keys import CONSEQUENCES, compare_keys
from smartprof.profile.scalars import LEAST_SECONDS, MOST_SECONDS
from smartprof.profile.schema import Key, Profile, Surface
from tests.profiles import assert_sound, make_key, make_profile, make_quality

EXTREMES = (LEAST_SECONDS, 1e-6, 0.01, 0.02, 1.0, MOST_SECONDS)


def _document() -> dict[str, Any]:
    return make_profile().model_dump(mode="json")


def _complaint(document: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        Profile.model_validate(document)
    return first_error(caught.value)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Profiles at the edges of what the schema accepts: wild seconds, any grids, one or many."""
    counts = st.one_of(st.integers(1, 40), st.integers(1, 100_000_000))
    batches = sorted(draw(st.sets(counts, min_size=1, max_size=4)))
    contexts = sorted(draw(st.sets(st.one_of(st.just(0), counts), min_size=1, max_size=3)))
    sizes = sorted(draw(st.sets(counts, min_size=1, max_size=4)))
    value = st.one_of(st.sampled_from(EXTREMES), st.floats(LEAST_SECONDS, MOST_SECONDS))
    cycle = draw(st.lists(value, min_size=1, max_size=12))
    step = draw(st.integers(1, 7))

    def seconds(batch: int, size: int, context: int) -> float:
        return cycle[(step * batch + 3 * size + context) % len(cycle)]

    return make_profile(
        seconds,
        overhead=seconds,
        plain=seconds,
        draft_step=seconds,
        draft_catchup=seconds,
        batches=batches,
        contexts=contexts,
        sizes=sizes,
    )


@settings(max_examples=150, deadline=None)
@given(profiles())
def test_any_accepted_profile_gives_finite_positive_seconds_and_its_anchors(
    profile: Profile,
) -> None:
    assert_sound(profile)


def test_the_soundness_check_can_fail() -> None:
    profile = make_profile()
    curve = profile.verify.curves[0]
    broken = curve.knots[0].model_copy(update={"seconds": -1.0})
    curve.knots[0] = broken
    with pytest.raises(AssertionError):
        assert_sound(profile)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("verify.curves.0.knots.1.seconds", -1.0, "verify.curves[0].knots[1].seconds: expected"),
        (
            "verify.curves.0.knots.1.seconds",
            0.0,
            "greater than or equal to 0.000000000001, got 0.0",
        ),
        ("verify.curves.0.knots.1.seconds", float("nan"), "finite number, got nan"),
        ("verify.curves.0.knots.1.seconds", float("inf"), "finite number, got inf"),
        ("verify.curves.0.knots.1.seconds", 10**400, "got a number of 1329 bits"),
        ("verify.curves.0.knots.1.seconds", "0.1", "valid number, got '0.1'"),
        ("verify.curves.0.knots.1.seconds", True, "valid number, got true"),
        ("verify.curves.0.knots.1.seconds", None, "valid number, got null"),
        ("verify.curves.0.knots.1.size", 2.0, "valid integer, got 2.0"),
        ("verify.curves.0.knots.1.size", 1, "strictly increasing knot sizes, got 1 after 1"),
        ("verify.curves.0.knots.1.size", 3, "knot of the anchor's 0.0"),
        ("verify.curves.0.knots", [], "at least 1 item after validation, not 0, got a list of 0"),
        ("verify.curves.0.steps", [9], "knots at both sides of step 9, got none"),
        ("verify.curves.0.free_tokens_10", 4000, "free tokens in 1..128, got 4000"),
        ("verify.curves.0.free_tokens_10_interval", [1, 4000], "free tokens in 1..128, got 4000"),
        ("verify.curves.0.free_tokens_10_interval", [1, 4], "within [1, 4], got None"),
        ("verify.curves.0.free_tokens_10_interval", [None, 4], "within [None, 4], got None"),
        ("verify.curves.0.free_tokens_50_interval", [1], "expected this field, got nothing"),
        ("verify.curves.0.batch", None, "expected"),
        ("verify.curves.0.batch", 2, "one curve per batch and context"),
        ("verify.domain.batch", [1, 9], "expected the domain of the curves"),
        ("verify.domain.size", [1], "verify.domain.size[1]: expected this field, got nothing"),
        ("verify.size_axis", "rows", "verify: expected size axis tokens, got rows"),
        ("verify.extra", 1, "verify.extra: expected no such field"),
        ("quality.held_out.count", 3, "expected numbers for a count of 3"),
        ("quality.outliers", -1, "greater than or equal to 0, got -1"),
        ("quality.regret", 0.1, "quality.regret: "),
        ("created", "yesterday", "expected a UTC time"),
        ("created", "2026-01-31T12:00:00+02:00", "expected a UTC time"),
        ("key.dtype", "int8", "got 'int8'"),
        ("key.capture_sizes", [8, 4], "strictly increasing capture sizes, got 4 after 8"),
        ("key.device.name", "two\nlines", "got 'two\\nlines'"),
        ("acceptance", {}, "acceptance: expected"),
        ("checksum", "sha1:0", "checksum: string should match"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_says_where(
    path: str, value: Any, words: str
) -> None:
    document = _document()
    place: Any = document
    *parents, last = [int(x) if x.isdigit() else x for x in path.split(".")]
    for part in parents:
        place = place[part]
    place[last] = value
    complaint = _complaint(document)
    assert words in complaint
    assert "\n" not in complaint and len(complaint) < 250


def test_a_complaint_counts_the_errors_it_leaves_out() -> None:
    document = _document()
    for knot in document["verify"]["curves"][0]["knots"][:4]:
        knot["seconds"] = -1
    assert _complaint(document).endswith("got -1 (+3 more)")


def test_a_missing_field_is_an_error_and_never_a_default() -> None:
    document = _document()
    del document["quality"]["wall_seconds"]
    assert _complaint(document) == "quality.wall_seconds: expected this field, got nothing"


def test_curves_must_form_a_full_product() -> None:
    document = _document()
    del document["verify"]["curves"][4]
    assert "expected a curve at batch 2, context 256, got none" in _complaint(document)


def test_a_batch_must_start_at_one_token_per_request() -> None:
    document = _document()
    for part in document["verify"]["curves"]:
        part["knots"] = [x for x in part["knots"] if x["size"] >= 16]
    document["verify"]["anchors"] = []
    document["verify"]["domain"]["size"] = [16, 128]
    assert "verify: expected the first knot of batch 1 at 1 tokens, got 16" in _complaint(document)


def test_two_anchors_at_one_point_are_refused() -> None:
    document = _document()
    document["verify"]["anchors"].append(document["verify"]["anchors"][0])
    assert "expected one anchor at batch 1, context 64, size 1, got two" in _complaint(document)


def test_an_axis_on_some_curves_only_is_refused() -> None:
    surface = make_profile(batches=(1,), contexts=(64, 256)).plain_decode.model_dump(mode="json")
    surface["curves"][0]["context"] = None
    surface["anchors"] = []
    with pytest.raises(ValidationError, match="axis on all curves or on none"):
        Surface.model_validate(surface)


def test_profiles_survive_a_round_trip_through_plain_values() -> None:
    profile = make_profile(half_width=0.01)
    assert Profile.model_validate(profile.model_dump(mode="json")) == profile


def test_values_are_shown_in_a_few_printable_characters() -> None:
    assert shown("a\nb\u2028é") == "'a\\nb\\u2028\\xe9'"
    assert len(shown("x" * 1000)) < 70
    assert shown({"a": [1]}) == "an object"


def _changed(**changes: Any) -> Key:
    """The test key with fields changed; a double underscore stands for the dot."""
    key = make_key()
    for field, value in changes.items():
        *parents, last = field.split("__")
        if parents:
            part = getattr(key, parents[0]).model_copy(update={last: value})
            key = key.model_copy(update={parents[0]: part})
        else:
            key = key.model_copy(update={last: value})
    return key


def test_equal_keys_match_without_a_word() -> None:
    match = compare_keys(make_key(), make_key())
    assert match.device_match
    assert not (match.refused or match.warnings or match.modelled)


def test_the_table_has_every_field_of_the_key_and_no_other() -> None:
    nested = {"device", "software", "target"}
    fields = {x for x in Key.model_fields if x not in nested}
    for part in nested:
        fields |= {f"{part}.{x}" for x in type(getattr(make_key(), part)).model_fields}
    assert set(CONSEQUENCES) == fields


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": "bfloat16"}, "dtype: the profile has 'float32', here is 'bfloat16'"),
        ({"execution": "cuda_graph"}, "the profile has 'eager', here is 'cuda_graph'"),
        ({"target__digest": "ff"}, "the profile has '0123456789abcdef', here is 'ff'"),
    ],
)
def test_another_dtype_mode_or_shape_digest_is_refused_with_both_values(
    changes: dict[str, Any], words: str
) -> None:
    match = compare_keys(make_key(), _changed(**changes))
    assert match.device_match and not match.warnings
    (line,) = match.refused
    assert words in line


@pytest.mark.parametrize(
    "changes",
    [
        {"device__uuid_digest": "another"},
        {"device__driver": "570.1"},
        {"device__memory_bytes": 2**30},
        {"software__torch": "2.10.0"},
        {"software__python": "3.12.0"},
        {"software__cuda": "13.0"},
        {"software__smartprof": "0.2.0"},
        {"target__name": "the same model in another folder"},
        {"capture_sizes": [8]},
    ],
)
def test_another_unit_of_the_same_device_or_another_library_is_warned(
    changes: dict[str, Any],
) -> None:
    match = compare_keys(make_key(), _changed(**changes))
    assert match.device_match and not match.refused
    assert len(match.warnings) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"device__kind": "cuda"},
        {"device__name": "Other CPU"},
        {"device__capability": "9.0"},
        {"device__threads": 4},
        {"target__name": "other", "target__digest": "ff", "target__parameters": 2_000_000},
    ],
)
def test_another_device_or_target_is_modelled_whatever_mode_it_ran_in(
    changes: dict[str, Any],
) -> None:
    match = compare_keys(make_key(), _changed(**changes, dtype="bfloat16", execution="cuda_graph"))
    assert not match.device_match
    assert match.modelled and not match.refused and not match.warnings


def test_another_shape_under_the_same_name_is_refused_on_another_device_too() -> None:
    match = compare_keys(make_key(), _changed(device__name="Other CPU", target__digest="ff"))
    assert not match.device_match and len(match.refused) == 1


def test_memory_that_differs_by_what_a_system_keeps_is_the_same() -> None:
    nearly = _changed(device__memory_bytes=8 * 2**30 - 50_000_000)
    assert not compare_keys(make_key(), nearly).warnings


def test_quality_without_points_has_nulls_and_no_zeros() -> None:
    assert make_quality().held_out.mean_abs_pct is None

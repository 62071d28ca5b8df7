from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from smartprof.decode.records import Equality, RoundRecord
from smartprof.decode.requests import Progress, Request
from smartprof.decode.run import LaneResult
from smartprof.report.summary import Run, loops, summarise_runs
from smartprof.report.tables import runs_table

ORDINARY = list(range(100))
LOOPING = [1, 2, 3, *[7] * 60]
MEASURED = (
    "seconds",
    "tokens_per_second",
    "speedup",
    "speedup_low",
    "speedup_high",
    "share",
    "speedup_without_loops",
)


def record(requests: Sequence[int], committed: int = 1, **changes: float) -> RoundRecord:
    """A round of 100 ms (20 drafting, 70 verifying), 200 ms modelled; every row does the same."""
    count = len(requests)
    fields: dict[str, float] = {
        "seconds": 0.1,
        "draft_seconds": 0.02,
        "verify_seconds": 0.07,
        "modelled_seconds": 0.2,
        "draft_steps": 0,
        "tree_size": 1,
    } | changes
    return RoundRecord(
        seconds=fields["seconds"],
        draft_seconds=fields["draft_seconds"],
        verify_seconds=fields["verify_seconds"],
        modelled_seconds=fields["modelled_seconds"],
        modelled_draft_seconds=0.0,
        modelled_verify_seconds=fields["modelled_seconds"],
        draft_steps=int(fields["draft_steps"]),
        verify_tokens=count * int(fields["tree_size"]),
        committed=np.full(count, committed),
        accepted=np.full(count, committed - 1),
        tree_size=np.full(count, int(fields["tree_size"])),
        context_lens=np.full(count, 50),
        requests=np.array(requests),
    )


def lane(
    policy: str,
    records: Sequence[RoundRecord],
    prompts: Sequence[str] = ("a", "b"),
    outputs: Sequence[Sequence[int]] | None = None,
    category: str = "code",
    equality: Equality | None = None,
) -> LaneResult:
    batch = len(records[0].requests)
    finished = [
        Progress(Request(x, category, "held-out", (1, 2), 100), i, list(y), True)
        for i, (x, y) in enumerate(zip(prompts, outputs or [ORDINARY] * len(prompts), strict=True))
    ]
    return LaneResult(
        policy=policy,
        drafter="ngram",
        batch=batch,
        split="held-out",
        category=category,
        records=records,
        outputs=finished[::-1],  # they end in any order
        equality=equality,
        prefill_seconds=0.5,
    )


PLAIN = [record([x], draft_seconds=0.0) for x in (0, 1) for _ in range(10)]
DRAFTED = [
    *(record([0], 2, tree_size=3, draft_steps=4, modelled_seconds=0.25) for _ in range(5)),
    *(record([1]) for _ in range(10)),
]


def pooled(lanes: Sequence[LaneResult], policy: str, device_match: bool = True) -> Run:
    runs = summarise_runs(lanes, device_match)
    return next(x for x in runs if (x.policy, x.category) == (policy, None))


def test_speedup_is_the_ratio_of_pooled_token_rates() -> None:
    found = pooled([lane("plain", PLAIN), lane("smart", DRAFTED)], "smart")
    assert found.tokens == 20
    assert found.seconds == pytest.approx(1.5)
    assert found.tokens_per_second == pytest.approx(20 / 1.5)
    assert found.speedup == pytest.approx((20 / 1.5) / (20 / 2.0))
    assert found.rounds == 15
    assert found.requests == 2
    assert found.prefill_seconds == 0.5


def test_the_interval_runs_over_prompts() -> None:
    """One prompt is twice as fast, the other as fast as plain: a resample may hold either alone."""
    found = pooled([lane("plain", PLAIN), lane("smart", DRAFTED)], "smart")
    assert found.speedup_low == pytest.approx(1.0)
    assert found.speedup_high == pytest.approx(2.0)


def test_an_even_speedup_has_no_interval() -> None:
    drafted = [record([x], 2) for x in (0, 1) for _ in range(5)]
    found = pooled([lane("plain", PLAIN), lane("smart", drafted)], "smart")
    assert (found.speedup, found.speedup_low, found.speedup_high) == pytest.approx((2, 2, 2))


def test_plain_decoding_is_its_own_reference() -> None:
    found = pooled([lane("plain", PLAIN)], "plain")
    assert (found.speedup, found.modelled_speedup) == pytest.approx((1, 1))
    assert found.accepted_per_round == 0.0
    assert found.tree_size == 1.0


def test_per_round_figures_are_means_over_requests_and_not_over_rounds() -> None:
    found = pooled([lane("plain", PLAIN), lane("smart", DRAFTED)], "smart")
    assert found.accepted_per_round == pytest.approx((1 + 0) / 2)
    assert found.tree_size == pytest.approx((3 + 1) / 2)
    assert found.draft_steps == pytest.approx((4 + 0) / 2)


def test_the_modelled_speedup_prices_the_same_rounds() -> None:
    found = pooled([lane("plain", PLAIN), lane("smart", DRAFTED)], "smart")
    modelled_seconds = 5 * 0.25 + 10 * 0.2
    assert found.modelled_tokens_per_second == pytest.approx(20 / modelled_seconds)
    assert found.modelled_speedup == pytest.approx((20 / modelled_seconds) / (20 / 4.0))


def test_shares_of_draft_verify_and_overhead_are_of_the_wall_clock() -> None:
    found = pooled([lane("plain", PLAIN), lane("smart", DRAFTED)], "smart").share
    assert found is not None
    assert (found.draft, found.verify, found.overhead) == pytest.approx((0.2, 0.7, 0.1))


def test_a_round_s_seconds_are_shared_by_the_requests_of_its_batch() -> None:
    plain = [record([0, 1]) for _ in range(10)] + [record([1, 2]) for _ in range(10)]
    drafted = [record([0, 1], 2) for _ in range(5)] + [record([1, 2], 1) for _ in range(5)]
    lanes = [lane("plain", plain, "abc"), lane("smart", drafted, "abc")]
    found = pooled(lanes, "smart")
    assert found.tokens == 30
    assert found.seconds == pytest.approx(1.0)
    assert found.speedup == pytest.approx((30 / 1.0) / (40 / 2.0))
    assert found.accepted_per_round == pytest.approx((1 + 0.5 + 0) / 3)


def test_a_prompt_that_is_decoded_twice_counts_once_for_the_interval() -> None:
    twice = [lane(x.policy, x.records, ("a", "a")) for x in (lane("plain", PLAIN),)]
    found = pooled([*twice, lane("smart", DRAFTED, ("a", "a"))], "smart")
    assert found.speedup == found.speedup_low == found.speedup_high


def test_a_profile_of_another_device_gives_nulls_and_never_zeros() -> None:
    found = pooled([lane("plain", PLAIN), lane("smart", DRAFTED)], "smart", device_match=False)
    assert {x: getattr(found, x) for x in MEASURED} == dict.fromkeys(MEASURED)
    assert found.modelled_speedup == pytest.approx((20 / 3.25) / (20 / 4.0))
    assert found.accepted_per_round == pytest.approx(0.5)


def test_a_profile_of_this_device_leaves_no_measured_field_empty() -> None:
    """Negative control for the test of nulls."""
    found = pooled([lane("plain", PLAIN), lane("smart", DRAFTED)], "smart")
    assert None not in [getattr(found, x) for x in MEASURED]


def test_equality_sums_over_categories_and_is_unknown_where_it_was_not_checked() -> None:
    parts = [Equality(2000, 1, 0), Equality(2000, 2, 0)]
    lanes = [lane("plain", PLAIN, category=f"c{i}", equality=x) for i, x in enumerate(parts)]
    assert (pooled(lanes, "plain").identical, pooled(lanes, "plain").ties) == (True, 3)
    changed = [*lanes, lane("plain", PLAIN, category="c2", equality=Equality(2000, 0, 1))]
    assert pooled(changed, "plain").identical is False
    unchecked = [*lanes, lane("plain", PLAIN, category="c2", equality=None)]
    assert (pooled(unchecked, "plain").identical, pooled(unchecked, "plain").ties) == (None, None)


def test_there_is_one_line_per_policy_and_batch_and_one_per_category() -> None:
    lanes = [
        lane(
            policy, [record(range(batch)) for _ in range(4)], ("a", "b")[:batch], category=category
        )
        for category in ("code", "editing")
        for batch in (1, 2)
        for policy in ("plain", "smart")
    ]
    runs = summarise_runs(lanes, True)
    places = [(x.policy, x.batch, x.category) for x in runs]
    assert len(set(places)) == len(places) == 2 * 2 * 3
    assert {x[2] for x in places} == {None, "code", "editing"}


def test_a_single_category_has_its_own_line_as_well() -> None:
    runs = summarise_runs([lane("plain", PLAIN)], True)
    assert [x.category for x in runs] == [None, "code"]
    assert replace(runs[1], category=None) == runs[0]
    assert runs_table(runs, "heading").row_count == 1  # for people once is enough


def test_pooled_figures_weigh_categories_by_their_tokens() -> None:
    plain = [lane("plain", PLAIN, category=x) for x in ("code", "editing")]
    fast = [record([x], 4) for x in (0, 1) for _ in range(5)]
    lanes = [*plain, lane("smart", fast, category="code"), lane("smart", PLAIN, category="editing")]
    runs = {x.category: x.speedup for x in summarise_runs(lanes, True) if x.policy == "smart"}
    assert runs["code"] == pytest.approx(4.0)
    assert runs["editing"] == pytest.approx(1.0)
    assert runs[None] == pytest.approx((60 / 3.0) / (40 / 4.0))


@pytest.mark.parametrize("period", [1, 2, 3, 10])
def test_an_output_that_ends_in_one_passage_over_and_over_loops(period: int) -> None:
    passage = list(range(900, 900 + period))
    assert loops([*range(40), *passage * (60 // period)])
    assert loops((passage * 60)[:48])
    partial = passage[: period - 1]
    assert loops([*range(40), *passage * (60 // period), *partial])  # cut within the passage


def test_ordinary_text_does_not_loop() -> None:
    draw = np.random.default_rng(0)
    assert not loops([])
    assert not loops([1])
    assert not loops(ORDINARY)
    assert not any(loops(draw.integers(0, 50, 128).tolist()) for _ in range(100))


def test_a_repetition_that_is_short_or_over_is_no_loop() -> None:
    assert not loops([*range(40), *[7] * 10])
    assert not loops([*range(40), *list(range(900, 930)) * 2])  # twice is a quotation
    assert not loops([*[7] * 60, *range(40)])  # it found its way out
    assert not loops([*range(40), *[7] * 60, 8])


def test_loops_are_reported_and_left_out_of_the_second_speedup() -> None:
    outputs = [LOOPING, ORDINARY]
    lanes = [lane("plain", PLAIN, outputs=outputs), lane("smart", DRAFTED, outputs=outputs)]
    found = pooled(lanes, "smart")
    assert found.looping_share == 0.5
    assert found.speedup == pytest.approx(4 / 3)
    assert found.speedup_without_loops == pytest.approx(1.0)  # prompt "b" alone


def test_without_loops_both_speedups_are_the_same() -> None:
    found = pooled([lane("plain", PLAIN), lane("smart", DRAFTED)], "smart")
    assert found.looping_share == 0.0
    assert found.speedup_without_loops == pytest.approx(found.speedup)


def test_when_everything_loops_there_is_no_speedup_without_loops() -> None:
    outputs = [LOOPING, LOOPING]
    lanes = [lane("plain", PLAIN, outputs=outputs), lane("smart", DRAFTED, outputs=outputs)]
    assert pooled(lanes, "smart").speedup_without_loops is None

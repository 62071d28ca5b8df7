"""Acceptance from outside: known answers, and one line for everything that contradicts itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from smartprof.errors import InputError
from smartprof.planning.acceptance import Acceptance
from smartprof.planning.families.base import Bounds
from smartprof.planning.families.chain import Chain
from smartprof.planning.sources.table import read_acceptance
from smartprof.trees.positional import PositionalAcceptance

METRICS = """
# HELP vllm:spec_decode_num_drafts_total Number of spec decoding drafts.
# TYPE vllm:spec_decode_num_drafts_total counter
vllm:spec_decode_num_drafts_total{engine="0",model_name="m"} 800.0
vllm:spec_decode_num_drafts_created{engine="0",model_name="m"} 1.7e+09
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="m"} 2400.0
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="m"} 1100.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="0"} 560.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="1"} 360.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="2"} 180.0
vllm:num_requests_running{engine="0",model_name="m"} 3.0
"""


def expected_tokens(acceptance: Acceptance, length: int) -> float:
    candidates = Chain().candidates(acceptance, Bounds())
    return next(x.expected for x in candidates if x.setting.nodes == length)


def write(folder: Path, content: str) -> Path:
    path = folder / "given"
    path.write_text(content)
    return path


@pytest.mark.parametrize("engines", [1, 2])
def test_vllms_counters_give_its_own_mean_accepted_length(tmp_path: Path, engines: int) -> None:
    """1 + accepted / drafts, which is what vLLM logs; engines of one server are added."""
    text = METRICS + (METRICS.replace('engine="0"', 'engine="1"') if engines == 2 else "")
    found = read_acceptance(f"vllm:{write(tmp_path, text)}")
    assert expected_tokens(found, 3) == pytest.approx(1 + 1100 / 800, abs=5e-4)
    assert found.tried == tuple(engines * x for x in (800, 560, 360))
    assert found.positional.rates == ((0.7,), (360 / 560,), (0.5,))
    assert found.remarks == ()
    assert len(Chain().candidates(found, Bounds())) == 1 + 3  # nothing is known of position 3


@pytest.mark.parametrize("seed", range(20))
def test_any_counters_give_their_accepted_length_to_three_digits_at_every_length(
    tmp_path: Path, seed: int
) -> None:
    random = np.random.default_rng(seed)
    drafts = int(random.integers(50, 10_000))
    accepted = np.sort(random.integers(0, drafts + 1, random.integers(1, 9)))[::-1].tolist()
    counters = {"num_drafts": drafts, "num_accepted_tokens_per_pos": accepted}
    found = read_acceptance(f"vllm:{write(tmp_path, json.dumps(counters))}")
    known = [x for x, before in zip(accepted, [drafts, *accepted], strict=False) if before]
    for length in range(1, len(known) + 1):
        mean = 1 + sum(known[:length]) / drafts
        assert f"{expected_tokens(found, length):.3f}" == f"{mean:.3f}"


def test_vllms_counters_as_json_say_the_same(tmp_path: Path) -> None:
    content = {"num_drafts": 800, "num_accepted_tokens_per_pos": [560, 360, 180]}
    text = read_acceptance(f"vllm:{write(tmp_path, METRICS)}")
    other = read_acceptance(f"vllm:{write(tmp_path, json.dumps(content))}")
    assert (other.positional, other.tried) == (text.positional, text.tried)


def test_conditional_rates_that_rise_with_depth_are_taken_from_counts(tmp_path: Path) -> None:
    content = {"num_drafts": 100, "num_accepted_tokens_per_pos": [50, 40]}
    found = read_acceptance(f"vllm:{write(tmp_path, json.dumps(content))}")
    assert found.positional.rates == ((0.5,), (0.8,))


def test_positions_that_no_draft_reached_are_not_known(tmp_path: Path) -> None:
    content = {"num_drafts": 10, "num_accepted_tokens_per_pos": [5, 0, 0]}
    found = read_acceptance(f"vllm:{write(tmp_path, json.dumps(content))}")
    assert found.positional.rates == ((0.5,), (0.0,))


def test_drafts_that_were_not_all_of_full_length_are_remarked_on(tmp_path: Path) -> None:
    text = METRICS.replace("2400.0", "2000.0")
    found = read_acceptance(f"vllm:{write(tmp_path, text)}")
    assert "understated" in found.remarks[0]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (METRICS.replace("360.0", "561.0"), "do not rise with position, got 561"),
        (METRICS.replace("560.0", "801.0"), "do not rise with position, got 801"),
        (METRICS.replace("360.0", "-1.0"), "expected a count"),
        (METRICS.replace("360.0", "NaN"), "expected a count"),
        (METRICS.replace("360.0", "+Inf"), "expected a count"),
        (METRICS.replace('position="1"', 'position="7"'), "for positions 0, 1"),
        (METRICS.replace("num_drafts_total", "other"), "got not all"),
        (
            METRICS.replace('model_name="m",position="0"', 'model_name="n",position="0"'),
            "one model",
        ),
        ("# nothing", "got not all"),
        ('{"num_drafts": 10}', "expected JSON such as"),
        ('{"num_drafts": true, "num_accepted_tokens_per_pos": [1]}', "expected JSON such as"),
        ('{"num_drafts": 10, "num_accepted_tokens_per_pos": [1.5]}', "expected JSON such as"),
        ('{"num_drafts": 0, "num_accepted_tokens_per_pos": [0]}', "drafts that were verified"),
        ("{", "expected JSON such as"),
        ('{"num_drafts":' * 50_000, "expected JSON such as"),
    ],
)
def test_counters_that_cannot_be_are_refused(tmp_path: Path, content: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as error:
        read_acceptance(f"vllm:{write(tmp_path, content)}")
    assert "\n" not in str(error.value)


def bench_line(steps: int, length: float, topk: int = 1, batch: int = 1) -> str:
    record = {
        "batch_size": batch,
        "steps": steps,
        "topk": topk if steps else 0,
        "num_draft_tokens": steps + 1 if steps else 0,
        "acc_length": length,
        "step_time": 0.01,
        "speed": 100.0,
        "completion_tokens": 512.0,
    }
    return json.dumps(record)


def test_sglangs_lines_give_back_the_rates_they_were_made_from(tmp_path: Path) -> None:
    lengths = {0: 1.0, 1: 1.7, 2: 1.7 + 0.42, 3: 1.7 + 0.42 + 0.21}
    lines = [bench_line(x, y) for x, y in lengths.items()] + [bench_line(3, 9.9, topk=4)]
    found = read_acceptance(f"sglang:{write(tmp_path, chr(10).join(lines))}")
    assert np.ravel(found.positional.rates) == pytest.approx([0.7, 0.6, 0.5])
    assert found.tried is None
    assert found.deepest == 3
    assert "1 left out" in found.remarks[0]


def test_steps_that_were_skipped_share_one_rate_and_batches_are_averaged(tmp_path: Path) -> None:
    long = 1.7 + 0.7 * (0.5 + 0.25)
    lines = [bench_line(1, 1.6, batch=1), bench_line(1, 1.8, batch=4), bench_line(3, long)]
    found = read_acceptance(f"sglang:{write(tmp_path, chr(10).join(lines))}")
    assert np.ravel(found.positional.rates) == pytest.approx([0.7, 0.5, 0.5])


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([bench_line(1, 1.7), bench_line(2, 1.6)], "expected acc_length to rise from 1 to 2"),
        ([bench_line(1, 1.7), bench_line(2, 2.5)], "expected acc_length to rise from 1 to 2"),
        ([bench_line(2, 2.0, topk=4)], "with topk 1 and steps from 1, got none"),
        ([bench_line(1, 0.5)], "line 1: expected acc_length from 1"),
        ([bench_line(1, 1.5), "{}"], "line 2: expected JSON with steps"),
        (['{"steps":' * 50_000], "line 1: expected JSON with steps"),
        ([], "got none"),
    ],
)
def test_lines_that_cannot_be_are_refused(tmp_path: Path, lines: list[str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_acceptance(f"sglang:{write(tmp_path, chr(10).join(lines))}")


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.85, 1.0])
@pytest.mark.parametrize("drafted", [1, 5])
def test_a_plain_length_is_read_as_the_one_rate_that_gives_it(rate: float, drafted: int) -> None:
    length = sum(rate**x for x in range(1, drafted + 1))
    found = read_acceptance(f"length:{length!r}/{drafted}")
    assert found.positional.rates[0][0] == pytest.approx(rate, abs=1e-9)
    assert expected_tokens(found, drafted) == pytest.approx(1 + length)
    assert "one rate" in found.heading


def test_an_assumption_is_called_one() -> None:
    assert read_acceptance("synthetic:0.7").heading.startswith("SYNTHETIC")
    assert "SYNTHETIC" not in read_acceptance("0.7").heading
    assert read_acceptance("rates:0.7+0.1/0.6") == read_acceptance("0.7+0.1/0.6")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0.6/0.7", "does not rise with depth, got 0.7 at depth 2 after 0.6"),
        ("synthetic:0.6/0.5/0.55", "does not rise with depth"),
        ("0.3+0.4", "does not rise with rank"),
        ("0.7+0.5", "sum to at most 1"),
        ("1.5", "from 0 to 1"),
        ("metrics.txt", "expected --acceptance as one of rates"),
        ("sequoia:0.5", "expected --acceptance as one of rates"),
        ("vllm:absent.txt", "cannot be read"),
        ("length:6/5", "expected ACCEPTED/DRAFTED"),
        ("length:nan/5", "expected ACCEPTED/DRAFTED"),
        ("length:2.4", "expected ACCEPTED/DRAFTED"),
        ("length:0/0", "expected ACCEPTED/DRAFTED"),
    ],
)
def test_what_is_no_acceptance_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as error:
        read_acceptance(text)
    assert "\n" not in str(error.value)


def test_draws_scatter_around_the_rates_as_the_counts_say() -> None:
    found = Acceptance.counted([(60, 10), (30,)], (100, 60), "a test")
    draws = found.draws(20_000)
    assert draws.shape == (20_000, 2, 2)
    assert draws.mean(axis=0) == pytest.approx(np.array([[0.6, 0.1], [0.5, 0.0]]), abs=0.01)
    assert draws[:, 0, 0].std() == pytest.approx((0.6 * 0.4 / 100) ** 0.5, rel=0.05)
    assert (draws.sum(axis=2) <= 1).all()
    stated = Acceptance(PositionalAcceptance(((0.6, 0.1), (0.5,))), "a test")
    assert (stated.draws(5) == stated.positional.table).all()  # no counts, no scatter


def test_counted_ranks_may_be_out_of_order() -> None:
    found = Acceptance.counted([(10, 12)], (100,), "a test")
    assert found.positional.rates == ((0.1, 0.12),)


def test_more_accepted_than_tried_is_refused() -> None:
    with pytest.raises(InputError, match="at most 10 accepted at depth 1, got 12"):
        Acceptance.counted([(6, 6)], (10,), "a test")

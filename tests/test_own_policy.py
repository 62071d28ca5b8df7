from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smartprof.errors import InputError
from smartprof.policies.own import load_policy
from smartprof.policies.table import make_policy
from tests.costs import TableCosts, line
from tests.drafting import draft, random_propose
from tests.tiny_decoding import decoded, loud_model, outputs, random_requests

EXAMPLE = Path(__file__).parents[1] / "examples" / "confident_policy.py"


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_the_example_has_at_most_forty_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 40


def test_a_file_is_a_policy_with_options_and_a_name() -> None:
    policy = make_policy(f"{EXAMPLE}:least=0.4:depth=3")
    assert (policy.name, policy.options.least, policy.options.depth) == ("confident", 0.4, 3)
    assert make_policy(str(EXAMPLE)) is not policy
    with pytest.raises(InputError, match=r"policy confident: least=2 is out of bounds"):
        make_policy(f"{EXAMPLE}:least=2")


def test_the_example_decodes_what_plain_decoding_does() -> None:
    requests = random_requests(6)
    plain = decoded(loud_model(), "plain", requests, 3)
    found = decoded(loud_model(), f"{EXAMPLE}:least=0.05", requests, 3)
    assert outputs(found) == outputs(plain)
    assert sum(int(x.accepted.sum()) for x in found.counted) > 0


def test_the_example_verifies_exactly_the_likely_nodes() -> None:
    costs = TableCosts(line(1.0, 0.1))
    for seed in range(30):
        rng = np.random.default_rng(seed)
        policy, room = make_policy(f"{EXAMPLE}:least=0.1:depth=3"), rng.integers(1, 9, 2)
        round, _ = draft(policy, 2, room, costs, random_propose(rng))[-1]
        forest = round.forest
        expected = [
            x
            for x in range(2, forest.size)
            if forest.path_prob[x] >= 0.1 and forest.depth[x] <= min(3, room[forest.request[x]] - 1)
        ]
        assert policy.cut(round).nodes.tolist() == expected


HEAD = "from smartprof.policies.base import Cut, Policy\n"
RULE = "    def grow(self, round): ...\n    def cut(self, round): ...\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (HEAD, "expected one subclass of Policy with grow and cut, got none"),
        (HEAD + "class A(Policy):\n    name = 'a'\n", "got none"),
        (HEAD + f"class A(Policy):\n{RULE}", "expected A to have a `name`"),
        (
            HEAD + f"class A(Policy):\n    name = 'a'\n{RULE}class B(A): ...\n",
            "got A, B",
        ),
        ("from smartprof.policies.chain import Chain\n", "got none"),
    ],
)
def test_a_file_without_one_policy_is_refused_in_one_line(
    tmp_path: Path, text: str, fault: str
) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        make_policy(write(tmp_path / "mine.py", text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused_and_a_broken_one_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no nowhere/mine\.py"):
        make_policy("nowhere/mine.py:k=3")
    with pytest.raises(ZeroDivisionError):
        load_policy(write(tmp_path / "broken.py", "1 / 0\n"))

"""The bundled prompts: counts, keys, and that the two splits share no text."""

import json
import re
from collections import Counter
from pathlib import Path

PROMPTS_FILE = Path(__file__).resolve().parents[1] / "smartprof" / "assets" / "prompts.jsonl"
CATEGORIES = ("conversation", "code", "editing", "summarising", "mathematics", "reading")
SPLITS = ("development", "held-out")
KEYS = ["id", "category", "split", "prompt"]
PER_CATEGORY = 20
PER_SPLIT = 10
MAX_WORDS = 600
SHARED_RUN = 12


def read_lines() -> list[str]:
    return PROMPTS_FILE.read_bytes().decode("utf-8").removesuffix("\n").split("\n")


def read_prompts() -> list[dict[str, str]]:
    return [json.loads(line) for line in read_lines()]


def word_runs(text: str, length: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def test_the_file_is_plain_utf8_and_ends_with_one_newline() -> None:
    raw = PROMPTS_FILE.read_bytes()
    raw.decode("utf-8")
    assert not raw.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in raw
    assert raw.endswith(b"}\n")


def test_the_file_has_one_hundred_and_twenty_lines() -> None:
    assert len(read_lines()) == len(CATEGORIES) * PER_CATEGORY == 120


def test_each_line_is_an_object_with_the_four_keys_in_order_and_string_values() -> None:
    for row in read_prompts():
        assert list(row) == KEYS
        assert all(isinstance(value, str) for value in row.values())
        assert row["category"] in CATEGORIES
        assert row["split"] in SPLITS


def test_the_ids_are_unique_and_number_each_category_from_one_to_twenty() -> None:
    ids = [row["id"] for row in read_prompts()]
    assert len(set(ids)) == len(ids)
    wanted = {f"{name}-{n:02d}" for name in CATEGORIES for n in range(1, PER_CATEGORY + 1)}
    assert set(ids) == wanted


def test_each_id_names_its_category_and_its_number_tells_the_split() -> None:
    for row in read_prompts():
        category, number = row["id"].rsplit("-", 1)
        assert category == row["category"]
        assert row["split"] == ("development" if int(number) % 2 else "held-out")


def test_each_category_has_twenty_prompts() -> None:
    counts = Counter(row["category"] for row in read_prompts())
    assert counts == {name: PER_CATEGORY for name in CATEGORIES}


def test_each_category_has_ten_prompts_in_each_split() -> None:
    counts = Counter((row["category"], row["split"]) for row in read_prompts())
    assert counts == {(name, split): PER_SPLIT for name in CATEGORIES for split in SPLITS}


def test_no_prompt_is_empty_or_padded_or_above_six_hundred_words() -> None:
    for row in read_prompts():
        assert row["prompt"].strip()
        assert row["prompt"] == row["prompt"].strip()
        assert len(row["prompt"].split()) <= MAX_WORDS


def test_no_prompt_text_occurs_twice() -> None:
    texts = [" ".join(row["prompt"].lower().split()) for row in read_prompts()]
    assert len(set(texts)) == len(texts)


def test_the_splits_share_no_run_of_twelve_words() -> None:
    development: dict[tuple[str, ...], str] = {}
    for row in read_prompts():
        if row["split"] == "development":
            for run in word_runs(row["prompt"], SHARED_RUN):
                development[run] = row["id"]
    shared = [
        (development[run], row["id"], " ".join(run))
        for row in read_prompts()
        if row["split"] == "held-out"
        for run in word_runs(row["prompt"], SHARED_RUN)
        if run in development
    ]
    assert not shared

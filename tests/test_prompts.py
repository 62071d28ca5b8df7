from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from smartprof.decode.prompts import (
    CATEGORIES,
    SPLITS,
    Prompt,
    bundled_prompts,
    read_prompts,
    select_prompts,
)
from smartprof.errors import InputError


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "prompts.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read_prompts(path)
    text = str(error.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_plain_lines_become_prompts_named_by_their_line(tmp_path: Path) -> None:
    found = read_prompts(written(tmp_path, "first prompt\n\n  second prompt  \n"))
    assert found == [
        Prompt("line-1", "own", "own", "first prompt"),
        Prompt("line-3", "own", "own", "second prompt"),
    ]


def test_json_lines_may_name_id_category_and_split(tmp_path: Path) -> None:
    rows = [
        {"prompt": "one", "id": "a", "category": "code", "split": "development"},
        {"prompt": "two\nlines"},
    ]
    found = read_prompts(written(tmp_path, "\n".join(json.dumps(x) for x in rows)))
    assert found == [
        Prompt("a", "code", "development", "one"),
        Prompt("line-2", "own", "own", "two\nlines"),
    ]


def test_json_and_plain_lines_may_be_mixed_and_need_no_last_newline(tmp_path: Path) -> None:
    found = read_prompts(written(tmp_path, '{"prompt": "one"}\ntwo'))
    assert [x.text for x in found] == ["one", "two"]


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_a_prompt(tmp_path: Path) -> None:
    path = written(tmp_path, b'\xef\xbb\xbf{"prompt": "one"}\r\nplain\r\n')
    assert [x.text for x in read_prompts(path)] == ["one", "plain"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0c", "\x1e"])
def test_only_a_newline_ends_a_line(tmp_path: Path, separator: str) -> None:
    text = f"before{separator}after"
    assert [x.text for x in read_prompts(written(tmp_path, text))] == [text]
    if separator >= "\x20":  # JSON strings may hold these as they are
        path = written(tmp_path, json.dumps({"prompt": text}, ensure_ascii=False))
        assert [x.text for x in read_prompts(path)] == [text]


@pytest.mark.parametrize("text", ["", "\n", "  \n\t\n\n"])
def test_a_file_without_a_prompt_is_refused(tmp_path: Path, text: str) -> None:
    assert "expected at least one prompt, got an empty file" in refusal(written(tmp_path, text))


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt": "cut',
        '{"text": "no prompt"}',
        '{"prompt": ""}',
        '{"prompt": "   "}',
        '{"prompt": 5}',
        '{"prompt": null}',
        '{"prompt": ["a"]}',
        '{"prompt": "x", "id": 7}',
        '{"prompt": "x", "category": ""}',
        '{"prompt": "x", "split": null}',
        '{"prompt": "half a pair \\ud83d"}',
        "{}",
        '{"prompt":' * 50_000,
    ],
    ids=lambda x: x[:40],
)
def test_a_line_that_is_no_prompt_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    assert "line 3" in refusal(written(tmp_path, f"fine\n\n{line}\n"))


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    refusal(tmp_path / "absent.txt")
    refusal(tmp_path)
    refusal(written(tmp_path, b"\xff\xfe\x00p"))


def test_the_bundled_prompts_are_ten_of_each_category_and_split() -> None:
    counts = Counter((x.category, x.split) for x in bundled_prompts())
    assert counts == {(x, y): 10 for x in CATEGORIES for y in SPLITS}


def test_selection_keeps_the_order_of_the_file() -> None:
    prompts = bundled_prompts()
    chosen = select_prompts(prompts, "held-out", None, None)
    assert chosen == [x for x in prompts if x.split == "held-out"]
    assert select_prompts(prompts, None, None, None) == prompts


def test_selection_takes_at_most_so_many_of_each_category() -> None:
    chosen = select_prompts(bundled_prompts(), "development", None, 2)
    assert Counter(x.category for x in chosen) == dict.fromkeys(CATEGORIES, 2)
    assert chosen[:2] == [x for x in bundled_prompts() if x.split == "development"][:2]


def test_selection_by_category_leaves_that_category_alone() -> None:
    chosen = select_prompts(bundled_prompts(), None, "editing", None)
    assert len(chosen) == 20
    assert {x.category for x in chosen} == {"editing"}


@pytest.mark.parametrize(
    ("split", "category"), [("test", None), (None, "poetry"), ("held-out", "own")]
)
def test_selecting_nothing_is_refused_with_what_there_is(
    split: str | None, category: str | None
) -> None:
    with pytest.raises(InputError) as error:
        select_prompts(bundled_prompts(), split, category, None)
    text = str(error.value)
    assert "\n" not in text
    assert "held-out/editing" in text

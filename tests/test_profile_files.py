from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smartprof.errors import ProfileError, SmartprofError
from smartprof.profile.canonical import readable
from smartprof.profile.files import (
    checksum,
    find_profile,
    load_profile,
    parse_profile,
    save_profile,
)
from smartprof.profile.schema import Profile
from tests.profiles import assert_sound, make_profile

CORRUPTIONS = 2000
Place = tuple[Any, Any]  # a container and the key or index in it


def independent_checksum(text: str) -> str:
    """The checksum as another program would make it: numbers travel as marked strings."""

    def mark(literal: str) -> str:
        return "\0" + literal

    document = json.loads(text, parse_float=mark, parse_int=mark)
    document.pop("checksum", None)
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    unmarked = re.sub(r'"\\u0000([-+.0-9eE]+)"', r"\1", canonical)
    return "sha256:" + hashlib.sha256(unmarked.encode()).hexdigest()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "profile.json"
    save_profile(make_profile(), path)
    return path


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _refusal(path: Path) -> str:
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_a_saved_profile_loads_as_it_was_with_its_checksum(tmp_path: Path) -> None:
    profile = make_profile(half_width=0.01)
    path = tmp_path / "profile.json"
    written = save_profile(profile, path)
    assert load_profile(path) == written
    assert written.model_copy(update={"checksum": ""}) == profile
    assert written.checksum == checksum(path.read_text())


def test_saving_what_was_loaded_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    save_profile(load_profile(saved), again)
    assert again.read_bytes() == saved.read_bytes()


def test_an_independent_implementation_gives_the_same_checksum(saved: Path) -> None:
    text = saved.read_text()
    assert independent_checksum(text) == load_profile(saved).checksum
    odd = '{"b": 1e5, "a": [0.10, -0, {"\\u00e9\\ud83d\\ude00": "\\u0000\\n\\"é"}, true], "c":{}}'
    assert independent_checksum(odd) == checksum(odd)


def test_the_checksum_knows_numbers_as_written_and_neither_spaces_nor_order() -> None:
    assert checksum('{"a": 1.0, "b": 2}') == checksum('{"b":2,\n"a":1.0}')
    assert checksum('{"a": 1.0}') != checksum('{"a": 1.00}')
    assert checksum('{"a": 1, "checksum": "x"}') == checksum('{"a": 1}')
    assert checksum('{"a": {"checksum": "x"}}') != checksum('{"a": {}}')


def test_a_hand_edited_number_is_refused(saved: Path) -> None:
    _edit(saved, "0.001", "0.0011")
    assert "was edited or damaged after it was written" in _refusal(saved)


def test_a_missing_checksum_is_refused(saved: Path) -> None:
    document = json.loads(saved.read_text())
    del document["checksum"]
    saved.write_text(json.dumps(document))
    assert "expected checksum 'none'" in _refusal(saved)


@pytest.mark.parametrize("version", ["3", "0", "true", "2.0", '"2"', "null"])
def test_another_schema_version_is_refused_before_anything_else(saved: Path, version: str) -> None:
    _edit(saved, '"schema_version": 2', f'"schema_version": {version}')
    assert "expected schema_version 1 or 2, got" in _refusal(saved)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Expecting value"),
        ("[]", "expected a JSON object"),
        ("null", "expected a JSON object"),
        ("{}", "got 'no version'"),
        ('{"a": 1, "a": 2}', "expected each key once, got 'a' twice"),
        ('{"a": NaN}', "expected finite numbers, got NaN"),
        ('{"a": -Infinity}', "expected finite numbers, got -Infinity"),
        ("[" * 100_000, "too many"),
        ('{"a":' * 400 + "[]" + "}" * 400, "expected"),
        ('{"a": ' + "9" * 5000 + "}", "limit"),
        ("\ufeff{}", "BOM"),
    ],
)
def test_text_that_is_no_profile_is_refused_in_one_line(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    assert words in _refusal(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'{"a": "\xff"}')
    assert "UTF-8" in _refusal(path)


def test_a_missing_file_and_a_folder_are_refused_in_one_line(tmp_path: Path) -> None:
    assert "No such file" in _refusal(tmp_path / "absent.json")
    assert "directory" in _refusal(tmp_path)


def test_an_existing_file_is_replaced_only_when_forced(saved: Path) -> None:
    before = saved.read_bytes()
    other = make_profile(lambda batch, size, context: 0.5)
    with pytest.raises(SmartprofError, match="--force"):
        save_profile(other, saved)
    assert saved.read_bytes() == before
    save_profile(other, saved, force=True)
    assert load_profile(saved).verify == other.verify


def _disk_full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("failure", "error"), [(_disk_full, SmartprofError), (_interrupted, KeyboardInterrupt)]
)
def test_a_failing_write_leaves_the_old_file_and_no_other(
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    failure: Callable[..., None],
    error: type[BaseException],
) -> None:
    before = saved.read_bytes()
    monkeypatch.setattr(os, function, failure)
    with pytest.raises(error):
        save_profile(make_profile(lambda batch, size, context: 0.5), saved, force=True)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", _disk_full)
    with pytest.raises(SmartprofError, match=r"No space left on device.*free some space") as caught:
        save_profile(make_profile(), tmp_path / "profile.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x" * 300, "file/profile.json"])
def test_a_place_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SmartprofError, match="cannot be written"):
        save_profile(make_profile(), tmp_path / name)


def test_a_profile_that_could_not_be_loaded_again_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    broken = make_profile().model_copy(update={"created": "never"})
    with pytest.raises(ProfileError, match="UTC"):
        save_profile(broken, path)
    assert not path.exists()


@pytest.mark.parametrize("in_checkout", [True, False])
def test_a_bare_name_is_looked_up_here_and_then_among_the_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_checkout: bool
) -> None:
    here, checkout, prefix = (tmp_path / x for x in ("here", "checkout", "prefix"))
    shipped = checkout / "profiles" if in_checkout else prefix / "share" / "smartprof" / "profiles"
    shipped.mkdir(parents=True)
    here.mkdir()
    (shipped / "a100.json").write_text("shipped")
    if in_checkout:
        (checkout / "pyproject.toml").touch()
    files = "smartprof.profile.files"
    monkeypatch.setattr(f"{files}.resources.files", lambda _: checkout / "smartprof")
    monkeypatch.setattr(f"{files}.sysconfig.get_path", lambda _: str(prefix))
    monkeypatch.chdir(here)
    assert find_profile("a100.json").read_text() == "shipped"
    with pytest.raises(ProfileError, match=r"h100\.json.*\(a100\.json\)"):
        find_profile("h100.json")
    with pytest.raises(ProfileError):
        find_profile("elsewhere/a100.json")
    (here / "a100.json").write_text("here")
    assert find_profile("a100.json").read_text() == "here"


def test_readable_text_is_the_same_value(saved: Path) -> None:
    value = {"a": [], "b": {}, "c": [{"d": [1, [2.5]]}, "é"], "e": {"f": {"g": None}}}
    assert json.loads(readable(value)) == value
    assert json.loads(readable(3)) == 3


def _places(value: Any) -> Iterator[Place]:
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, member in items:
        yield value, key
        yield from _places(member)


VALUES: tuple[Callable[[Any], Any], ...] = (
    lambda _: -1,
    lambda _: 0,
    lambda _: 1e300,
    lambda _: 10**400,
    lambda _: 10**9,
    lambda _: 5e-324,
    lambda _: float("nan"),
    lambda _: float("inf"),
    lambda _: None,
    lambda _: True,
    lambda _: "",
    lambda _: "3",
    lambda _: "a\nb\ud800",
    lambda _: [],
    lambda _: {},
    lambda x: [x],
    lambda x: {"a": x},
    lambda x: [[[[x]]]],
    lambda x: float(x) if isinstance(x, int) else str(x),
    lambda x: x * 2 if isinstance(x, (int, float)) else x,
    lambda x: x + 1 if isinstance(x, (int, float)) else x,
    lambda x: -x if isinstance(x, (int, float)) else x,
    lambda x: x * 1.001 if isinstance(x, float) else x,
)


def _replace(document: Any, dice: random.Random) -> None:
    container, key = dice.choice(list(_places(document)))
    container[key] = dice.choice(VALUES)(container[key])


def _delete(document: Any, dice: random.Random) -> None:
    container, key = dice.choice(list(_places(document)))
    del container[key]


def _rename(document: Any, dice: random.Random) -> None:
    container, key = dice.choice([x for x in _places(document) if isinstance(x[0], dict)])
    container[dice.choice([f"{key}_", key.upper(), "", "\n", "x" * 500])] = container.pop(key)


def _swap(document: Any, dice: random.Random) -> None:
    (one, i), (other, j) = dice.sample(list(_places(document)), 2)
    one[i], other[j] = json.loads(json.dumps(other[j])), json.loads(json.dumps(one[i]))


def _swap_seconds(document: Any, dice: random.Random) -> None:
    places = [x for x in _places(document) if x[1] == "seconds"]
    (one, i), (other, j) = dice.sample(places, 2)
    one[i], other[j] = other[j], one[i]


def _duplicate(document: Any, dice: random.Random) -> None:
    container = dice.choice([x for x in _lists(document) if x])
    container.insert(dice.randrange(len(container) + 1), dice.choice(container))


def _shuffle(document: Any, dice: random.Random) -> None:
    dice.shuffle(dice.choice([x for x in _lists(document) if len(x) > 1]))


def _scale_everything(document: Any, dice: random.Random) -> None:
    factor = 10 ** dice.uniform(-12, 8)
    for container, key in _places(document):
        if key in ("seconds", "ci_half_width", "spread"):
            container[key] *= factor


def _wild_curve(document: Any, dice: random.Random) -> None:
    """All the seconds of a surface at random, as far as they go, with no anchors to hold them."""
    surface = document[dice.choice(["verify", "plain_decode", "round_overhead"])]
    surface["anchors"] = []
    for curve in surface["curves"]:
        for knot in curve["knots"]:
            knot["seconds"] = 10 ** dice.uniform(-12.1, 5.1)


def _lists(document: Any) -> list[list[Any]]:
    return [x[y] for x, y in _places(document) if isinstance(x[y], list)]


def _truncate(text: str, dice: random.Random) -> str:
    return text[: dice.randrange(len(text))]


def _flip(text: str, dice: random.Random) -> str:
    place = dice.randrange(len(text))
    character = chr(dice.choice([ord(text[place]) ^ (1 << dice.randrange(7)), 0x20, 0x35, 0x2028]))
    return text[:place] + character + text[place + 1 :]


def _repeat_key(text: str, dice: random.Random) -> str:
    place = dice.choice([x.start() for x in re.finditer(r'"(size|seconds|batch)"', text)])
    return text[:place] + '"seconds": 1.0, ' + text[place:]


IN_DOCUMENT = (
    *[_replace] * 6,
    *[_delete] * 2,
    _rename,
    _swap,
    _swap_seconds,
    _duplicate,
    _shuffle,
    _scale_everything,
    _wild_curve,
)
IN_TEXT = (_truncate, _flip, _flip, _repeat_key)


def _corrupted(text: str, dice: random.Random) -> str:
    """One to three corruptions of the document, or of its text, under a checksum that fits."""
    if dice.random() < 0.25:
        text = dice.choice(IN_TEXT)(text, dice)
    else:
        document = json.loads(text)
        for _ in range(dice.choice([1, 1, 2, 3])):
            # What an earlier corruption broke may lack what this one needs.
            with contextlib.suppress(
                AttributeError, IndexError, KeyError, OverflowError, TypeError
            ):
                dice.choice(IN_DOCUMENT)(document, dice)
        text = json.dumps(document)
    try:
        fitting = independent_checksum(text)
    except (ValueError, AttributeError):  # no JSON, or no object: has no checksum
        return text
    return re.sub(r'("checksum": ")sha256:[0-9a-f]{64}"', rf'\g<1>{fitting}"', text)


def _outcome(text: str) -> Profile | str:
    try:
        return parse_profile(text, "x.json")
    except ProfileError as error:
        return str(error)


def test_corrupted_profiles_give_one_line_or_load_to_sound_ones(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    save_profile(make_profile(batches=(1, 3), contexts=(50, 200), sizes=(1, 2, 3, 8)), path)
    original = path.read_text()
    dice = random.Random(20260131)
    refused, loaded, hidden = [], 0, 0
    for _ in range(CORRUPTIONS):
        outcome = _outcome(_corrupted(original, dice))
        if isinstance(outcome, str):
            refused.append(outcome)
            hidden += "was edited or damaged" in outcome
        else:
            loaded += 1
            assert_sound(outcome, queries=2)
    assert len(refused) + loaded == CORRUPTIONS
    assert all("\n" not in x and x.isprintable() and len(x) < 400 for x in refused)
    assert len(refused) > CORRUPTIONS / 4 and loaded > CORRUPTIONS / 20  # both ends are tested
    assert hidden < CORRUPTIONS / 50  # the checksum did not do the work of the schema

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.conformance.readers import ROOT, VENDORED, Library, load_vendored
from tests.conformance.vectors import (
    FOLDER,
    PROFILES,
    VECTORS,
    Vectors,
    contract_files,
    failures,
    laid_out,
    load_vectors,
)

READERS = {"library": Library, "vendored": load_vendored().Profile}
MOST_LINES = 120
# Set where a C++ compiler must be there; elsewhere its absence skips what needs one.
REQUIRE_CXX = "SMARTPROF_REQUIRE_CXX"

# A slip that a reader can make, as a change of read_profile.py. Some vector must notice each.
SLIPS = {
    "a later version is read": ("version not in SCHEMA_VERSIONS", "version < 1"),
    "an earlier version is read": ("version not in SCHEMA_VERSIONS", "version > 2"),
    "the newest version alone is read": ("version not in SCHEMA_VERSIONS", "version != 2"),
    "a version that equals 2 is read": ("type(version) is not int or ", ""),
    "no checksum is made": ('self.content.get("checksum") != _checksum(text)', "False"),
    "a missing checksum is allowed": (
        'self.content.get("checksum") != ',
        'self.content.get("checksum", _checksum(text)) != ',
    ),
    "numbers are respelled": ('f"\\0{literal}"', "float(literal)"),
    "members in file order": ("sort_keys=True, ", ""),
    "strings are not escaped": (
        "sort_keys=True, ",
        "sort_keys=True, ensure_ascii=False, ",
    ),
    "a member may stand twice": ("object_pairs_hook=_once, ", ""),
    "NaN is a number": ("parse_constant=int", "parse_constant=float"),
    "two tokens each in plain decoding": (' or (quantity == "plain_decode" and size != batch)', ""),
    "fewer tokens than requests": ('if quantity != "draft_step" and size < batch', "if False"),
    "fewer rows than requests refused": ('quantity != "draft_step" and ', ""),
    "one drafter for all": (
        "self._surfaces.get((drafter, quantity))",
        "{x[1]: y for x, y in reversed(self._surfaces.items())}.get(quantity)",
    ),
    "any reach": ("asked[axis] is None or not low <= asked[axis] <= high", "asked[axis] is None"),
    "one octave": ("(1, 2), 4, 4096", "(1, 2), 2, 4096"),
    "more than two octaves": ("(1, 2), 4, 4096", "(1, 2), 4.01, 4096"),
    "small contexts refused": ('0 if axis == "context" else low / REACH', "low / REACH"),
    "small batches answered": ('0 if axis == "context" else low / REACH', "0"),
    "no reach around context 0": ("max(high, 1) * REACH", "high * REACH"),
    "knots are exact": (
        "in self.anchors",
        "in {(x, k['size'], y) for x, y in self.curves for k in self.curves[x, y]}",
    ),
    "no anchor is exact": ("in self.anchors", "in ()"),
    "the longest curve ends the tier": (
        'first, last = (min(x[end]["size"] for x in curves) for end in (0, -1))',
        "first, last = min(x[0]['size'] for x in curves), max(x[-1]['size'] for x in curves)",
    ),
    "the latest curve begins the tier": (
        'first, last = (min(x[end]["size"] for x in curves) for end in (0, -1))',
        "first, last = max(x[0]['size'] for x in curves), min(x[-1]['size'] for x in curves)",
    ),
    "the tier forgets the batch": ("(self.batches, batch), ([first", "([first"),
    "the tier forgets the context": (", (self.contexts, context))", ")"),
    "the nearest curve": ("- values[low]) / (", "- values[low]) // ("),
    "context before batch": (
        "read = [[self._on_curve(field, x, size, y) for x in rows] for y in columns]\n"
        "        return _mixed(*(_mixed(*x, along, field) for x in read), across, field)",
        "read = [[self._on_curve(field, x, size, y) for y in columns] for x in rows]\n"
        "        return _mixed(*(_mixed(*x, across, field) for x in read), along, field)",
    ),
    "held beyond the largest": ("max(share - 1, 0)", "0"),
    "a fall goes on": ("max(high - low, 0) * max", "(high - low) * max"),
    "a half-width rises beyond": (' if field == "seconds" else 0\n', "\n"),
    "held above the last knot": ("max(size / max(knots), 1)", "1"),
    "the last slope goes on": (
        "max(size / max(knots), 1)",
        "1 + max(size / max(knots) - 1, 0) / 2",
    ),
    "plain decoding grows with its batch": ('name == "plain_decode"', "False"),
    "other sizes go on like batches": ('name == "plain_decode"', "True"),
    "half-widths grow with size": (' if field == "seconds" else 1)', ")"),
    "the first knot holds": (" or batch == self.batches[0]:", " or True:"),
    "work alone below the first knot": ("max(ends[0] / ends[1], size / first)", "size / first"),
    "no floor below the first knot": ("max(ends[0] / ends[1], size / first)", "ends[0] / ends[1]"),
    "no ceiling below the first knot": (
        "min(max(ends[0] / ends[1], size / first), 1)",
        "max(ends[0] / ends[1], size / first)",
    ),
    "the smallest batch below the first knot": (
        "self.batches[self.batches.index(batch) - 1]",
        "self.batches[0]",
    ),
    "half-widths shrink below the first knot": (
        ' if field == "seconds" else 1)',
        ' if field == "seconds" else min(size / first, 1))',
    ),
    "every dip is taken": ("x[0] + x[2] < floor", "x[0] < costs[0][0]"),
    "the widths of one end only": ("x[0] + x[2] < floor", "x[0] < floor"),
    "half-widths add up": ("hypot(*widths)", "sum(widths)"),
    "padding beyond 4096 tokens": (
        "(1, 2), 4, 4096",
        "(1, 2), 4, 4970",
    ),
    "no padding beyond 4095 tokens": (
        "(1, 2), 4, 4096",
        "(1, 2), 4, 4095",
    ),
    "no padding": ("size in range(tokens, max(tokens, most) + 1)", "size in (tokens,)"),
    "padding beyond the overhead": ("min(LONGEST_PAD, *", "max(0, *"),
    "verify alone": ('for x in ("verify", "round_overhead")]', 'for x in ("verify",)]'),
    "the first dip is taken": (
        "return min(x[:2] for x in costs if x[1] == tokens or x[0] + x[2] < floor)",
        "return [x[:2] for x in costs if x[1] == tokens or x[0] + x[2] < floor][:2][-1]",
    ),
    "batch before tokens": (
        "        read = [[self._on_curve(field, x, size, y) for x in rows] for y in columns]\n",
        "        sizes = [x['size'] for x in self.curves[rows[0], columns[0]]]\n"
        "        *sizes, between = _around(sizes, size)\n"
        "        ends = [[[self._on_curve(field, x, z, y) for z in sizes] for x in rows]"
        " for y in columns]\n"
        "        read = [[_mixed(*x, between, field) for x in y] for y in ends]\n",
    ),
}


def _with_digits_changed(vectors: Vectors) -> tuple[Vectors, int]:
    """One digit of every expected number of seconds, and how many there are."""
    dice = Random(0)
    changed: Vectors = {}
    for kind, found in vectors.items():
        changed[kind] = [dict(x) for x in found]
        for vector in changed[kind]:
            if "seconds" in vector:
                vector["seconds"] = _digit_changed(vector["seconds"], dice)
    return changed, sum("seconds" in x for found in vectors.values() for x in found)


def _digit_changed(text: str, dice: Random) -> str:
    place = dice.choice([i for i, x in enumerate(text) if x.isdigit()])
    digit = str((int(text[place]) + dice.randint(1, 9)) % 10)
    return text[:place] + digit + text[place + 1 :]


def test_the_generated_files_are_what_the_library_gives_now() -> None:
    made = contract_files()
    kept = {str(x.relative_to(FOLDER)): x for x in FOLDER.rglob("*.json")}
    assert sorted(kept) == sorted(made), "run `make contract`"
    for name, path in kept.items():
        assert path.read_text(encoding="utf-8") == made[name], f"{name}: run `make contract`"


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_in_python_gives_what_the_vectors_expect(reader: str) -> None:
    assert list(failures(READERS[reader], load_vectors())) == []


@pytest.mark.parametrize("reader", READERS)
def test_a_vector_with_one_digit_changed_fails(reader: str) -> None:
    changed, count = _with_digits_changed(load_vectors())
    assert len(list(failures(READERS[reader], changed))) == count


@pytest.mark.parametrize("reader", READERS)
def test_a_profile_with_one_digit_changed_is_refused(reader: str) -> None:
    dice = Random(1)
    text = (FOLDER / PROFILES / "rewritten.json").read_text(encoding="utf-8")
    READERS[reader](text)
    for _ in range(100):
        with pytest.raises(ValueError):
            READERS[reader](_digit_changed(text, dice))


@pytest.mark.parametrize("error", [-1e-14, 1e-14])
def test_no_answer_lies_so_near_a_rounding_that_two_right_readers_differ(error: float) -> None:
    class Nearly(Library):
        def seconds(self, *query: Any, **names: Any) -> tuple[float, str]:
            seconds, tier = super().seconds(*query, **names)
            return seconds * (1 + error), tier

        def envelope(self, *query: Any) -> tuple[float, int]:
            seconds, run = super().envelope(*query)
            return seconds * (1 + error), run

    assert list(failures(Nearly, load_vectors())) == []


@pytest.mark.parametrize("slip", SLIPS)
def test_a_reader_with_a_slip_fails_a_vector(slip: str) -> None:
    right, wrong = SLIPS[slip]
    source = VENDORED.read_text()
    assert source.count(right) == 1
    slipped = load_vendored(source.replace(right, wrong)).Profile
    assert next(failures(slipped, load_vectors()), None) is not None


def test_the_vendored_reader_is_one_short_file_of_the_standard_library() -> None:
    source = VENDORED.read_text()
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {x.name.split(".")[0] for x in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported <= sys.stdlib_module_names
    assert len(source.splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*.json")), ids=lambda x: x.name)
def test_the_vendored_reader_agrees_with_the_library_on_a_shipped_profile(path: Path) -> None:
    text, dice = path.read_text(encoding="utf-8"), Random(2)
    library, vendored = Library(text), load_vendored().Profile(text)
    quantities = [(None, x) for x in ("verify", "plain_decode", "round_overhead")]
    quantities += [
        (x, y) for x in library.profile.drafters for y in ("draft_step", "draft_catchup")
    ]
    answered = 0
    for _ in range(300):
        drafter, quantity = dice.choice(quantities)
        batch = dice.randint(1, 40)
        size = batch if quantity == "plain_decode" else dice.randint(1, 600)
        query = (quantity, batch, size, dice.choice([64, dice.uniform(0, 5000)]), drafter)
        try:
            seconds, tier = library.seconds(*query)
        except LookupError:
            with pytest.raises(LookupError):
                vendored.seconds(*query)
            continue
        assert vendored.seconds(*query) == (pytest.approx(seconds, rel=1e-12), tier)
        answered += 1
    assert answered > 100


@pytest.fixture(scope="module")
def cxx_reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ reader with its small program, compiled."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    header = "#if !__has_include(<nlohmann/json.hpp>)\n#error\n#endif\n"
    missing = "a C++ compiler (g++)" if compiler is None else ""
    if compiler is not None:
        asked = [compiler, "-std=c++17", "-x", "c++", "-E", "-"]
        if subprocess.run(asked, input=header, text=True, capture_output=True).returncode:
            missing = "nlohmann/json (nlohmann-json3-dev)"
    if missing:
        (pytest.fail if os.environ.get(REQUIRE_CXX) else pytest.skip)(f"{missing} is missing")
    program = tmp_path_factory.mktemp("cxx") / "check_vectors"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]
    source = FOLDER / "check_vectors.cpp"
    command = [str(compiler), *flags, "-I", str(VENDORED.parent), str(source), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[:4000]
    return program


def _asked(program: Path, folder: Path) -> tuple[int, list[str]]:
    done = subprocess.run([program, folder], capture_output=True, text=True)
    return done.returncode, (done.stdout + done.stderr).splitlines()


def test_the_reader_in_cxx_gives_what_the_vectors_expect(cxx_reader: Path) -> None:
    assert _asked(cxx_reader, FOLDER) == (0, [])


def test_the_reader_in_cxx_fails_every_vector_with_one_digit_changed(
    cxx_reader: Path, tmp_path: Path
) -> None:
    changed, count = _with_digits_changed(load_vectors())
    shutil.copytree(FOLDER / PROFILES, tmp_path / PROFILES)
    (tmp_path / VECTORS).write_text(laid_out(changed), encoding="utf-8")
    status, lines = _asked(cxx_reader, tmp_path)
    assert status == 1 and len(lines) == count


def test_the_reader_in_cxx_refuses_a_profile_with_one_digit_changed(
    cxx_reader: Path, tmp_path: Path
) -> None:
    text, dice = (FOLDER / PROFILES / "rewritten.json").read_text(encoding="utf-8"), Random(3)
    (tmp_path / PROFILES).mkdir()
    refused: Vectors = {"files": [], "queries": [], "envelopes": []}
    for i in range(100):
        name = f"{i}.json"
        (tmp_path / PROFILES / name).write_text(_digit_changed(text, dice), encoding="utf-8")
        refused["files"].append({"about": "a digit", "profile": name, "accepted": False})
    (tmp_path / VECTORS).write_text(laid_out(refused), encoding="utf-8")
    assert _asked(cxx_reader, tmp_path) == (0, [])

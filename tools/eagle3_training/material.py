"""Natural text and source code as material for instructions: passages out of files.

Paragraphs come from HTML, Mallard pages, Markdown and plain text, functions from Python source.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

MARKUP, TEXT, SOURCE = (".html", ".htm", ".page"), (".txt", ".md"), (".py",)
WORDS = (25, 160)  # of a passage
LINES = (4, 30)  # of a function
CHARACTERS = 1200
HEADINGS = ("h1", "h2", "h3", "title")
SKIPPED = ("site-packages", "dist-packages", "test", "tests")
MOST_PASSAGES = 1500  # of one folder, so that no large one drowns the others


class _Paragraphs(HTMLParser):
    """Collects the text of paragraphs; what stands outside of them is navigation."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """A new paragraph ends the one before, as HTML has it."""
        if tag == "p":
            self.found.append("")
            self._open = True
        elif tag in HEADINGS:
            self._open = False

    def handle_endtag(self, tag: str) -> None:
        """Text after a paragraph is not part of it."""
        if tag == "p":
            self._open = False

    def handle_data(self, data: str) -> None:
        """Text of the open paragraph."""
        if self._open:
            self.found[-1] += data


def prose(folders: Sequence[Path]) -> list[str]:
    """Passages of neighbouring paragraphs, each once, from all parts of every folder."""
    chosen: dict[str, None] = {}
    for folder in folders:
        found = {}
        for path in _files(folder, MARKUP + TEXT):
            text = path.read_text("utf-8", errors="replace")
            found |= dict.fromkeys(_joined(_paragraphs(text, path.suffix)))
        chosen |= dict.fromkeys(list(found)[:: -(-len(found) // MOST_PASSAGES) or 1])
    return list(chosen)


def answers(texts: Iterable[str]) -> list[str]:
    """Those of some texts that have the length of a passage, each once."""
    return list(dict.fromkeys(y for x in texts if (y := x.strip()) and _is_passage(y)))


def source(folders: Sequence[Path]) -> list[str]:
    """Python functions at the top level of files, each once."""
    found: dict[str, None] = {}
    for folder in folders:
        for path in _files(folder, SOURCE):
            found |= dict.fromkeys(_functions(path.read_text("utf-8", errors="replace")))
    return list(found)


def _functions(text: str) -> Iterator[str]:
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    lines = text.splitlines()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
            own = lines[node.lineno - 1 : node.end_lineno]
            part = "\n".join(own)
            if LINES[0] < len(own) <= LINES[1] and len(part) <= CHARACTERS:
                yield part


def _files(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.suffix in suffixes and path.is_file() and not set(parts) & set(SKIPPED):
            yield path


def _paragraphs(text: str, suffix: str) -> list[str]:
    if suffix in MARKUP:
        parser = _Paragraphs()
        parser.feed(text)
        parts = parser.found
    else:
        parts = re.split(r"\n\s*\n", text)
    return [x for x in (re.sub(r"\s+", " ", part).strip() for part in parts) if _is_prose(x)]


def _is_prose(text: str) -> bool:
    """Sentences, not tables, menus or code."""
    letters = sum(x.isalpha() or x.isspace() for x in text)
    return len(text) > 60 and letters > 0.85 * len(text) and text[-1] in ".!?:"


def _joined(paragraphs: Sequence[str]) -> Iterator[str]:
    """Paragraphs put together until a passage is long enough."""
    passage = ""
    for part in paragraphs:
        passage = f"{passage}\n\n{part}" if passage else part
        if len(passage.split()) < WORDS[0]:
            continue
        if _is_passage(passage):
            yield passage
        passage = ""


def _is_passage(text: str) -> bool:
    return WORDS[0] <= len(text.split()) <= WORDS[1] and len(text) <= CHARACTERS

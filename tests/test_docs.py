"""What stands in docs/ and the README is what the code says, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
import write_cli_reference
import write_policy_options
from typer.main import get_command

from smartprof.cli import app
from smartprof.policies.table import POLICIES

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    x
    for y in (".", "docs", "profiles", "notebooks", "tests/conformance")
    for x in (ROOT / y).glob("*.md")
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")


def test_the_command_reference_is_what_the_commands_say() -> None:
    page = write_cli_reference.TARGET.read_text(encoding="utf-8")
    assert page == write_cli_reference.reference(), "run `make docs`"


def test_the_command_reference_has_every_command_and_follows_a_change() -> None:
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"^## (.+)$", write_cli_reference.reference(), re.MULTILINE)) == commands
    other = typer.Typer()

    @other.command()
    def first(count: int = typer.Option(3, "--count", help="Of a | b.")) -> None:
        """Do one thing."""

    @other.command()
    def second() -> None:
        """Do another thing."""

    found = write_cli_reference.reference(other)
    assert "## first\n\n`smartprof first [OPTIONS]`\n\nDo one thing.\n" in found
    assert re.search(r"\| `--count <int>` \| Of a \\\| b\. +\[default: 3\] \|", found)
    assert found.endswith("Do another thing.\n")


def test_the_table_of_options_is_what_the_policies_say() -> None:
    page = write_policy_options.TARGET.read_text(encoding="utf-8")
    assert page == write_policy_options.with_options(page), "run `make docs`"
    assert write_policy_options.with_options(page.rsplit("|", 20)[0]) == page  # what is cut is back
    with pytest.raises(ValueError, match="expected the line"):
        write_policy_options.with_options("# another page")


def test_every_policy_has_a_section_with_its_paper() -> None:
    page = write_policy_options.TARGET.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", page, re.MULTILINE))
    for name, policy in POLICIES.items():
        assert name in sections
        for paper in re.findall(r"arXiv (\d+\.\d+)", policy.paper):
            assert paper in page, f"{name} cites {paper}"


def broken_links(page: Path, text: str) -> list[str]:
    """Links to files that are not there."""
    targets = {x.split("#")[0] for x in LINK.findall(text) + IMAGE.findall(text)}
    local = {x for x in targets if x and not x.startswith(("http:", "https:", "mailto:"))}
    return sorted(x for x in local if not (page.parent / x).exists())


@pytest.mark.parametrize("page", PAGES, ids=lambda x: str(x.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    assert broken_links(page, page.read_text(encoding="utf-8")) == []
    assert broken_links(page, "see [that](nowhere.md#part)") == ["nowhere.md"]


def test_the_index_of_the_docs_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {x.name for x in (ROOT / "docs").glob("*.md")} - {"README.md"}
    notebooks = {f"../notebooks/{x.name}" for x in (ROOT / "notebooks").glob("*.ipynb")}
    assert (pages | notebooks) - set(LINK.findall(index)) == set()

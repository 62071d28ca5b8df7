"""The notebooks run as they stand, and what is kept in them is what they print."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from run_notebooks import ROOT, executed, notebooks, texts

NAMES = {"read_a_profile", "efficiency_paradox", "own_policy"}


def figures(notebook: nbformat.NotebookNode) -> int:
    outputs = [y for x in notebook.cells if x.cell_type == "code" for y in x.outputs]
    return sum("image/png" in x.get("data", {}) for x in outputs)


def test_these_are_the_notebooks() -> None:
    assert {x.stem for x in notebooks()} == NAMES


@pytest.mark.parametrize("path", notebooks(), ids=lambda x: x.stem)
def test_a_notebook_runs_and_prints_what_is_kept_in_it(path: Path) -> None:
    kept, fresh = nbformat.read(path, as_version=4), executed(path)
    assert texts(fresh) == texts(kept), "run `make notebooks`"
    assert any(texts(kept))
    assert figures(kept) == figures(fresh) >= 3


@pytest.mark.parametrize("path", notebooks(), ids=lambda x: x.stem)
def test_a_notebook_says_which_figures_are_modelled_and_names_no_place_of_a_machine(
    path: Path,
) -> None:
    notebook = nbformat.read(path, as_version=4)
    prose = "\n".join(x.source for x in notebook.cells if x.cell_type == "markdown")
    assert "SYNTHETIC" in prose
    assert "**modelled**" in prose or "simulated" in prose
    assert str(ROOT) not in path.read_text(encoding="utf-8")


def test_a_cell_that_raises_ends_the_run_and_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        executed(path)
    assert path.read_bytes() == before

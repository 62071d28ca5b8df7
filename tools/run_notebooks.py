"""Runs every notebook of notebooks/ and keeps its outputs in it: `make notebooks`.

A cell that raises ends the run with its traceback and leaves the file as it was.
"""

from __future__ import annotations

import copy
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
SECONDS = 300  # of one cell; a notebook is meant to take far less


def notebooks() -> list[Path]:
    """All of them, by name."""
    return sorted(FOLDER.glob("*.ipynb"))


def executed(path: Path) -> Any:
    """The notebook with fresh outputs, run in its folder; CellExecutionError if a cell raises."""
    notebook = nbformat.read(path, as_version=4)
    metadata = copy.deepcopy(notebook.metadata)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as sockets:  # files instead of ports
        connection = Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"})
        client = NotebookClient(notebook, timeout=SECONDS, config=connection)
        client.execute(cwd=str(path.parent), env=environment)
    # Python's version and when a cell ran change with every run, and no reader asks for them.
    notebook.metadata = metadata
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    return notebook


def texts(notebook: Any) -> list[str]:
    """What each code cell printed, figures and warnings left out."""
    return [
        "".join(x.text for x in cell.outputs if x.get("name") == "stdout")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def main() -> None:
    """Run and save all."""
    for path in notebooks():
        start = time.perf_counter()
        notebook = executed(path)
        nbformat.write(notebook, path)
        print(f"{path.name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()

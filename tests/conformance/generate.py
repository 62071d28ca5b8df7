"""Writes the profiles and vectors of this folder: `make contract`.

The answers are the library's. Look at what changed before you commit it: an answer that changes
breaks every other reader.
"""

from __future__ import annotations

from tests.conformance.vectors import FOLDER, contract_files


def main() -> None:
    """Write every generated file."""
    for name, text in contract_files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

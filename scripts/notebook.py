"""Write docs/tutorial.ipynb from docs/tutorial.md, or check that it is up to date.

    python scripts/notebook.py --write
    python scripts/notebook.py --check

Text becomes cells of Markdown, blocks of Python and commands become cells of code. Outputs are left empty.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
PAGE, NOTEBOOK = DOCS / "tutorial.md", DOCS / "tutorial.ipynb"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code(language: str, body: str) -> str:
    """Return the source of a cell: Python as it is, and each command with an exclamation mark."""
    if language == "python":
        return body.rstrip()
    return re.sub(r"^(?=\S)", "!", body.rstrip(), flags=re.MULTILINE)


def cells(text: str) -> list[dict[str, Any]]:
    """Return the cells of a page."""
    made: list[dict[str, Any]] = []

    def add(kind: str, source: str, **more: Any) -> None:
        if source.strip():
            lines = source.strip("\n").splitlines(keepends=True)
            made.append({"cell_type": kind, "id": f"cell-{len(made)}", "metadata": {}, "source": lines, **more})

    end = 0
    for block in BLOCK.finditer(text):
        add("markdown", text[end : block.start()])
        add("code", code(block[1], block[2]), execution_count=None, outputs=[])
        end = block.end()
    add("markdown", text[end:])
    return made


def notebook(text: str) -> str:
    """Return the notebook of a page as JSON."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    made = {"cells": cells(text), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write or check the notebook."""
    made = notebook(PAGE.read_text())
    if sys.argv[1:] == ["--write"]:
        NOTEBOOK.write_text(made)
    elif sys.argv[1:] != ["--check"]:
        sys.exit("usage: python scripts/notebook.py --write | --check")
    elif not NOTEBOOK.is_file() or NOTEBOOK.read_text() != made:
        sys.exit("docs/tutorial.ipynb is not that of docs/tutorial.md: python scripts/notebook.py --write")


if __name__ == "__main__":
    main()

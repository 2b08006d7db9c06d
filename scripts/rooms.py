"""The rooms of the package and their imports, read from the code.

python scripts/rooms.py            print the table
python scripts/rooms.py --write    put it into docs/architecture.md
python scripts/rooms.py --check    exit with status 1 if the table there is not up to date, or rooms form a circle
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "nelbo"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: python scripts/rooms.py --write -->", "<!-- end of rooms -->"

NESTED = ("sweeps/cells", "sweeps/report")
"""Folders within a room that are rooms of their own."""


def files() -> list[Path]:
    """Return the source files of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def room(file: Path) -> str:
    """Return the room of a source file: a folder, or a module beside the folders."""
    path = file.relative_to(PACKAGE).as_posix()
    nested = [name for name in NESTED if path.startswith(f"{name}/")]
    return nested[0] if nested else path.split("/")[0].removesuffix(".py")


def room_of_module(module: str) -> str | None:
    """Return the room of a dotted name of ours; None for the package itself and for other packages."""
    parts = module.split(".")
    if parts[0] != "nelbo" or len(parts) < 2 or parts[1].startswith("__"):
        return None
    nested = "/".join(parts[1:3])
    return nested if nested in NESTED else parts[1]


def imports(file: Path) -> set[str]:
    """Return the dotted names of the modules that a file imports, within functions too.

    Raises:
        ValueError: for a relative import.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{file}: relative import")
            module = str(node.module)
            # `from nelbo.sweeps import report` imports the room of that name.
            names |= (
                {f"{module}.{alias.name}" for alias in node.names} if module in ("nelbo", "nelbo.sweeps") else {module}
            )
    return names


def function_lengths(file: Path) -> dict[str, int]:
    """Return the number of lines of each function of a file, by its name."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, functions)]
    return {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in found}


def graph() -> dict[str, set[str]]:
    """Return the rooms that each room imports."""
    found: dict[str, set[str]] = {}
    for file in files():
        others = {other for name in imports(file) if (other := room_of_module(name))}
        found.setdefault(room(file), set()).update(others - {room(file)})
    return found


def circles(rooms: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the imports that are part of a circle of rooms."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = rooms.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        return seen

    return [(one, other) for one in sorted(rooms) for other in sorted(rooms[one]) if one in reachable(other)]


def levels(rooms: dict[str, set[str]]) -> list[str]:
    """Return the rooms from the bottom up: each after all that it imports; alphabetical among equals."""
    ordered: list[str] = []
    while len(ordered) < len(rooms):
        ready = sorted(name for name in rooms if name not in ordered and rooms[name] <= set(ordered))
        if not ready:
            raise ValueError("the rooms form a circle")
        ordered += ready
    return ordered


def summary(name: str) -> str:
    """Return the first sentence of a room's docstring."""
    folder = PACKAGE / name
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n\n")[0].replace("\n", " ")
    return text.replace("|", "\\|").rstrip(".")


def table(rooms: dict[str, set[str]]) -> str:
    """Return the table of rooms as Markdown, from the top down."""
    lines = ["| room | what it holds | imports |", "|---|---|---|"]
    for name in reversed(levels(rooms)):
        if name.startswith("__"):
            continue
        path = f"`{name}/`" if (PACKAGE / name).is_dir() else f"`{name}.py`"
        lines.append(f"| {path} | {summary(name)} | {', '.join(sorted(rooms[name])) or '-'} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line; print, write or check the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/architecture.md")
    parser.add_argument("--check", action="store_true", help="check the table in docs/architecture.md")
    options = parser.parse_args()
    rooms = graph()
    if wrong := circles(rooms):
        sys.exit("rooms form a circle: " + ", ".join(f"{one} imports {other}" for one, other in wrong))
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    expected = f"{before}{BEGIN}\n\n{table(rooms)}\n\n{END}{after}"
    if options.write:
        PAGE.write_text(expected)
    elif options.check:
        if expected != page:
            sys.exit("docs/architecture.md: the table of rooms is not up to date: python scripts/rooms.py --write")
    else:
        print(table(rooms))


if __name__ == "__main__":
    main()

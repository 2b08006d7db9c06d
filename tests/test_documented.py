"""Every command on every page is one that the programs accept, and every block of Python compiles."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import re
import runpy
import tomllib
from pathlib import Path

import pytest

from nelbo.commands.data import VERBS
from nelbo.commands.draw import with_kind
from nelbo.commands.reproduce import LIST, chosen
from nelbo.finished.arguments import AT, DATA, add_keys, quote_runs
from tests.helpers.command_lines import composed
from tests.helpers.documented import NEW_PARTS, PAGES, RUN_AS_WRITTEN, Shown, commands, kind, last_cell, shown
from tests.helpers.forks import ROOT

COMPOSED = ("train", "evaluate", "draw")
COMMANDS = [
    item for item in commands() if Path(item.page).name not in RUN_AS_WRITTEN and not NEW_PARTS & set(item.words)
]
PROGRAMS = [item for page in PAGES for item in shown(page) if item.is_python]


def accept(item: Shown) -> None:
    """Read a command as its program does, up to the point where it would begin to work."""
    name, given = kind(item), item.words[2:]
    if name == "train":
        composed(last_cell(given))
    elif name == "evaluate":
        composed(quote_runs(add_keys(given)), "evaluate")
    elif name == "draw":
        composed(with_kind(given), "draw")
    else:
        parser = importlib.import_module(f"nelbo.commands.{name}").parser()
        others = {"export": AT, "push": AT, "replay": DATA, "report": DATA}.get(name, "")
        values, _ = parser.read(given, others=others)
        if name == "data":
            assert values.verb in VERBS
        if name == "reproduce" and values.verb != LIST:
            chosen(values.row)


@pytest.mark.parametrize("item", [item for item in COMMANDS if kind(item) in COMPOSED], ids=lambda item: item.place)
def test_commands_compose(item: Shown) -> None:
    accept(item)


def other_commands() -> list[Shown]:
    return [item for item in COMMANDS if kind(item) not in COMPOSED]


@pytest.mark.parametrize("item", other_commands(), ids=lambda item: item.place)
def test_other_commands_are_accepted(item: Shown) -> None:
    name, given = kind(item), item.words[1:]
    if name == "make":
        assert re.search(rf"^{given[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif name == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        named = re.findall(r"\[([\w,]+)\]", item.text)
        assert given[0] == "install" and all(extra in extras for names in named for extra in names.split(","))
    elif name == "python":
        module = given[0] == "-m"
        script = given[1].replace(".", "/") + ".py" if module else given[0]
        shown = f"python -m {given[1]}" if module else f"python {script}"
        assert (ROOT / script).is_file() and shown in (ROOT / script).read_text()
    else:
        accept(item)


@pytest.mark.parametrize("item", PROGRAMS, ids=lambda item: item.place)
def test_python_compiles(item: Shown) -> None:
    compile(item.text, item.place, "exec")


@pytest.mark.parametrize("page", RUN_AS_WRITTEN)
def test_pages_that_are_run_as_they_are_written_have_their_test(page: str) -> None:
    assert f'"{page}"' in (ROOT / RUN_AS_WRITTEN[page]).read_text()


def test_the_notebook_is_that_of_the_tutorial() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "notebook.py"))["notebook"](
        (ROOT / "docs" / "tutorial.md").read_text()
    )
    assert (ROOT / "docs" / "tutorial.ipynb").read_text() == made, "python scripts/notebook.py --write"


def test_examples_of_the_hooks() -> None:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    result = doctest.testmod(module)
    assert result.attempted > 2 and result.failed == 0


def test_no_command_is_overlooked() -> None:
    """What looks like a command in any block is one that was found."""
    found = {(item.page, item.line) for item in commands()}
    looks = re.compile(r"^(?: {4,}|\$ )?(?:python (?:train\.py|scripts/)|nelbo [a-z]+ )")
    for page in PAGES:
        fenced = ""
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if line.startswith("```"):
                fenced = "" if fenced else line
            elif looks.match(line) and (fenced or line.startswith("    ")):
                assert (str(page.relative_to(ROOT)), number) in found, f"{page.name}:{number}: {line}"

"""Commands and Python code that the documentation shows, in the order of each page."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from nelbo.commands.main import COMMANDS
from tests.helpers.forks import ROOT

PAGES = tuple(sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]))

RUN_AS_WRITTEN = {
    "own.md": "tests/commands/test_installed.py",
    "own_data.md": "tests/running/test_own_data_page.py",
}
"""Pages with packages and config files of their own, and the tests that run their commands as they are written."""

NEW_PARTS = frozenset(("likelihood=student",))
"""Options that a page adds as an example; `tests/test_docs.py` tries the part."""

PLACEHOLDERS = {
    "outputs/<date>/<run>": "outputs/run",
    "outputs/...": "outputs/run",
    "bundle=outputs/run/crash": "bundle=outputs/run/crash",
    "run=...": "run=outputs/run",
    "run=RUN": "run=outputs/run",
    "with=RUN": "with=outputs/run",
    "SWEEP": "outputs/multirun/sweep",
    "DIRECTORY": "outputs/run",
    "FILE": "file",
    "at.beta=B": "at.beta=1",
    "data.root=NEW": "data.root=moved",
    "data.name=ORGANISATION/SET": "data.name=organisation/set",
    "data=...": "data=mnist",
    "likelihood=...": "likelihood=gaussian",
    "prior=...": "prior=mixture",
    "trainer.max_epochs=...": "trainer.max_epochs=1",
    "seed=S": "seed=1",
    "hydra.sweep.dir=...": "hydra.sweep.dir=outputs/multirun/sweep",
    " ... train.py": " train.py",
}
"""What is written in place of a value that the reader chooses, and a value to test the command with."""

CODE = frozenset(("python", "py", "yaml", "json"))
"""Languages of fenced blocks in which there are no commands."""

COMMAND = re.compile(r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:python|nelbo|torchrun|srun|make|pip|mkdocs)\s")
REMARK = re.compile(r"\s{2,}[#(].*$|\s#\s.*$")
FENCE = re.compile(r" *```(\w*)")


@dataclass(frozen=True)
class Shown:
    """A command, or a block of Python, with the page and the line that it begins in."""

    page: str
    line: int
    text: str
    is_python: bool = False

    @property
    def place(self) -> str:
        """Where it is, for messages and names of tests."""
        return f"{self.page}:{self.line}"

    @property
    def words(self) -> list[str]:
        """The words of the command behind variables and starters such as srun, with values for placeholders."""
        text = self.text
        for written, value in PLACEHOLDERS.items():
            text = text.replace(written, value)
        words = shlex.split(text)
        while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            del words[0]
        if words[0] in ("torchrun", "srun"):
            script = next(index for index, word in enumerate(words) if word.endswith(".py"))
            words = ["python", *words[script:]]
        return words


def _code(text: str) -> list[tuple[int, str, str]]:
    """Return the lines of a page that are code: number, language of the block ("" if indented), and text."""
    lines, language = [], None
    for number, line in enumerate(text.splitlines(), 1):
        if fence := FENCE.match(line):
            language = None if language is not None else fence[1] or "text"
        elif language is not None:
            lines.append((number, language, line))
        elif line.startswith("    "):
            lines.append((number, "", line))
    return lines


def _commands(page: str, text: str) -> list[Shown]:
    shown, begun = [], None
    for number, language, line in _code(text):
        if language in CODE:
            continue
        if begun is None and not COMMAND.match(line.strip() + " "):
            continue
        start, before = begun or (number, "")
        joined = f"{before} {REMARK.sub('', line.strip().removeprefix('$ '))}".strip()
        if joined.endswith("\\"):
            begun = start, joined.removesuffix("\\").strip()
        else:
            shown.append(Shown(page, start, joined))
            begun = None
    assert begun is None, f"{page}: a command ends with a backslash"
    return shown


def _programs(page: str, text: str) -> list[Shown]:
    """Return the fenced blocks of Python; those in a block of `py` are parts, which need what the text describes."""
    blocks: list[tuple[int, list[str]]] = []
    for number, language, line in _code(text):
        if language == "python":
            if blocks and blocks[-1][0] + len(blocks[-1][1]) == number:
                blocks[-1][1].append(line)
            else:
                blocks.append((number, [line]))
    return [Shown(page, number, "\n".join(lines) + "\n", True) for number, lines in blocks]


@cache
def shown(page: Path) -> tuple[Shown, ...]:
    """Return the commands and the Python blocks of a page in order."""
    text, name = page.read_text(), str(page.relative_to(ROOT))
    return tuple(sorted([*_commands(name, text), *_programs(name, text)], key=lambda item: item.line))


def commands() -> list[Shown]:
    """Return the commands of all pages."""
    return [item for page in PAGES for item in shown(page) if not item.is_python]


def kind(item: Shown) -> str:
    """Return the name of nelbo's command that a command calls, or the first word of another one."""
    first, second, *_ = item.words
    if first == "nelbo":
        return second
    name = Path(second).stem
    return name if second == "train.py" or second.startswith("scripts/") and name in COMMANDS else first


def last_cell(words: list[str]) -> list[str]:
    """Return the arguments with which the last cell of a sweep is composed; of another command line its own."""
    if "-m" not in words:
        return words
    parser, cell = OverridesParser.create(), []
    for word in words:
        override = None if word.startswith("-") else parser.parse_override(word)
        if override is not None and override.is_sweep_override():
            swept = override.value()
            value = swept.end if override.is_interval_sweep() else list(override.sweep_string_iterator())[-1]
            word = f"{override.input_line.partition('=')[0]}={value}"
        cell.append(word)
    return cell


def at_smoke(words: list[str]) -> list[str]:
    """Return the arguments of `train` for a run of a few seconds: one epoch of five batches, and a cell of a sweep."""
    others = (
        "trainer=",
        "trainer.max_epochs=",
        "trainer.max_steps=",
        "trainer.check_val",
        "hydra.launcher.",
        "hydra.sweep",
        "hydra/",
    )
    return [word for word in last_cell(words) if word != "-m" and not word.startswith(others)] + ["trainer=smoke"]

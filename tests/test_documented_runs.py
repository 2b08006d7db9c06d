"""Commands of all pages train at `trainer=smoke`, and pages that build on their own runs work from top to bottom."""

from __future__ import annotations

import shlex
import sys
import warnings
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from nelbo.data.catalogue import CATALOGUE
from tests.helpers.command_lines import composed
from tests.helpers.documented import Shown, at_smoke, commands, kind, shown
from tests.helpers.downloads import unavailable
from tests.helpers.errors_of_commands import TROUBLE, metrics_of
from tests.helpers.forks import ROOT, forked

pytestmark = pytest.mark.slow

FROM_TOP_TO_BOTTOM = ("tutorial", "conditional", "schedulers", "early_stopping", "callbacks", "loggers")
"""Pages whose commands and blocks of Python need no more than each other."""

NEEDS = {
    "--help": "no training",
    "trainer=ddp": "several devices",
    "data.path=": "a file of the reader's",
    "data.root=": "a folder of the reader's",
    "data=huggingface": "a data set of the hub",
    "allow_targets=": "code of the reader's",
    "resume=outputs": "an earlier run",
    "init_from=": "an earlier run",
    "likelihood=bernoulli": "other pixels: the README shows what refuses it",
    "likelihood=student": "a part that a page adds as an example",
}
"""What in a command tells that it cannot be run alone, and what it needs."""


def trainings() -> list[Shown]:
    """Return the commands that train by themselves, each once."""
    alone = [
        item
        for item in commands()
        if kind(item) == "train"
        and not any(word.startswith(need) for word in item.words for need in NEEDS)
        and Path(item.page).stem not in FROM_TOP_TO_BOTTOM
    ]
    return list({tuple(at_smoke(item.words[2:])): item for item in alone}.values())


def train(arguments: list[str], folder: Path) -> None:
    done = forked("train.py", *arguments, "threads=1", f"hydra.run.dir={folder}")
    assert done.returncode == 0, f"{shlex.join(arguments)}\n{done.stdout}\n{done.stderr}"
    assert not [text for text in TROUBLE if text in (done.stdout + done.stderr).lower()], done.stderr
    assert metrics_of(folder)["epochs"] == 1


@pytest.mark.parametrize("item", trainings(), ids=lambda item: item.place)
def test_commands_train(item: Shown, tmp_path: Path) -> None:
    arguments = [word for word in at_smoke(item.words[2:]) if not word.startswith(("threads=", "hydra.run.dir="))]
    data = composed(arguments).data
    name = "binarized_mnist data.protocol=static" if data.get("protocol") == "static" else data.name
    if name in CATALOGUE and (problem := unavailable(name)):
        pytest.skip(f"needs data={name}: {problem}")
    train(arguments, tmp_path / "run")


def run(item: Shown, folder: Path) -> None:
    """Run a command of a page, with its results below a folder."""
    words = [word.replace("=outputs/", f"={folder}/outputs/").replace("out=", f"out={folder}/") for word in item.words]
    name, arguments = kind(item), words[2:]
    if name == "train":
        chosen = [word for word in arguments if word.startswith(("hydra.run.dir=", "hydra.sweep.dir="))]
        rest = [word for word in at_smoke(arguments) if not word.startswith(("threads=", "hydra.run.dir="))]
        train(rest, Path(chosen[0].partition("=")[2]))
    else:
        done = forked(f"scripts/{name}.py", *arguments)
        assert done.returncode == 0, f"{item.place}: {item.text}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("name", FROM_TOP_TO_BOTTOM)
def test_a_page_works_from_top_to_bottom(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for item in shown(ROOT / "docs" / f"{name}.md"):
        if item.is_python:
            exec(compile(item.text, item.place, "exec"), names)
        else:
            run(item, tmp_path)


def smoke_cell(source: str) -> str:
    """Return the source of a cell with its commands as a short run of this interpreter."""
    if not source.startswith("!"):
        return source
    lines = []
    for line in source.replace("\\\n", " ").splitlines():
        _, name, *arguments = shlex.split(line.removeprefix("!"))
        sweep = next((word for word in arguments if word.startswith("hydra.sweep.dir=")), None)
        if name == "train":
            arguments = at_smoke(arguments) + ([sweep.replace(".sweep.", ".run.")] if sweep else [])
        lines.append(f"!{sys.executable} -m nelbo {name} {shlex.join(arguments)}")
    return "\n".join(lines)


def test_the_notebook_of_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(ROOT / "docs" / "tutorial.ipynb", as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = smoke_cell(cell.source)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that start the kernel
        NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
        ).execute()
    assert (tmp_path / "manifold.png").is_file() and (tmp_path / "outputs" / "rates" / "metrics.json").is_file()

"""The examples of docs/own_data.md, as they are written, with the package beside train.py."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from tests.helpers.errors_of_commands import TROUBLE, metrics_of
from tests.helpers.forks import ROOT, Done, forked
from tests.helpers.pages import blocks, write_files

PAGE = "own_data.md"
SCRIPTS = blocks(PAGE, "sh")
WAYS = {"function": "mydata.arrays.waves", "dataset": "mydata.dataset.Waves", "module": "mydata.module.WavesModule"}
PROGRAMS = {"train": "train.py", "evaluate": "scripts/evaluate.py", "draw": "scripts/draw.py"}


def run(line: str, folder: Path) -> Done:
    """Run a command of the page, with its results below a folder, by copies of the scripts in it."""
    nelbo, command, *arguments = shlex.split(line)
    assert nelbo == "nelbo"
    script = shutil.copy(ROOT / PROGRAMS[command], folder)
    return forked(str(script), *(word.replace("=outputs/", f"={folder}/outputs/") for word in arguments))


def lines(script: str) -> list[str]:
    """Return the commands of a block, each in one line."""
    return script.replace("\\\n", " ").splitlines()


def test_the_page_has_a_training_for_each_way_and_an_evaluation() -> None:
    assert len(SCRIPTS) == len(WAYS) + 1
    assert all(f"_target_={target}" in script for target, script in zip(WAYS.values(), SCRIPTS, strict=False))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package of the page, and its three runs."""
    folder = tmp_path_factory.mktemp("page")
    write_files(PAGE, folder)
    (folder / "mydata" / "__init__.py").touch()
    for script in SCRIPTS[:-1]:
        (line,) = lines(script)
        done = run(line, folder)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert not [text for text in TROUBLE if text in (done.stdout + done.stderr).lower()], done.stderr
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_each_way_trains(folder: Path, way: str) -> None:
    metrics = metrics_of(folder / "outputs" / way)
    assert str(metrics["data"]) == WAYS[way] and metrics["test_images"] == 120
    assert str(metrics["data_sha256"]).startswith("sample:") == (way != "function")


def test_the_runs_are_evaluated_and_drawn(folder: Path) -> None:
    for line in lines(SCRIPTS[-1]):
        done = run(line, folder)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert (folder / "outputs" / "dataset" / "evaluation.json").exists()
    assert (folder / "outputs" / "module" / "pictures" / "reconstructions.png").exists()

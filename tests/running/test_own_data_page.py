"""The examples of docs/own_data.md, as they are written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.errors_of_commands import TROUBLE, metrics_of
from tests.helpers.forks import ROOT
from tests.helpers.pages import blocks, write_files

PAGE = "own_data.md"
SCRIPTS = blocks(PAGE, "sh")
WAYS = {"function": "mydata.arrays.waves", "dataset": "mydata.dataset.Waves", "module": "mydata.module.WavesModule"}


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block of the page in a folder."""
    command = f'nelbo() {{ "{sys.executable}" -m nelbo "$@"; }}\n{script}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    arguments = ["bash", "-ec", command]
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


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
        done = shell(script, folder)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        assert not [text for text in TROUBLE if text in (done.stdout + done.stderr).lower()], done.stderr
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_each_way_trains(folder: Path, way: str) -> None:
    metrics = metrics_of(folder / "outputs" / way)
    assert metrics["data"] == WAYS[way] and metrics["test_images"] == 120
    assert metrics["data_sha256"].startswith("sample:") == (way != "function")


def test_the_runs_are_evaluated_and_drawn(folder: Path) -> None:
    done = shell(SCRIPTS[-1], folder)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert (folder / "outputs" / "dataset" / "evaluation.json").exists()
    assert (folder / "outputs" / "module" / "pictures" / "reconstructions.png").exists()

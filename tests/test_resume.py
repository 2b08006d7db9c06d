"""What a run that goes on may find otherwise than it was: processes, versions, keys of the config."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nelbo.loading import read_checkpoint
from tests.interrupted import run

CHOSEN = ["trainer.max_epochs=2"]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that stopped after the third of six steps of its second epoch."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    assert run(folder, CHOSEN, "train:9:SIGTERM").returncode == 143
    return folder


def changed(folder: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Write a checkpoint anew."""
    file = folder / "checkpoints" / f"{name}.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, file)


def two_processes(checkpoint: dict[str, Any]) -> None:
    """As if a second process had trained with the first; what earlier versions wrote says no more."""
    checkpoint["random_states"]["ranks"] *= 2
    checkpoint["nelbo"].pop("environment")


def test_another_number_of_processes_is_refused_within_an_epoch(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    changed(tmp_path / "run", "last", two_processes)
    before = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    done = run(tmp_path / "run", CHOSEN)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "stopped within an epoch, after 3 batches in each of 2 processes; there are now 1" in line
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == before
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_another_number_of_processes_is_said_at_an_epochs_end(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "last.ckpt").unlink()
    changed(tmp_path / "run", "best", two_processes)
    done = run(tmp_path / "run", CHOSEN)
    assert done.returncode == 0, done.stderr
    assert "from step 6 on with processes 1, which was 2" in done.stderr
    resumed = json.loads((tmp_path / "run" / "metrics.json").read_text())["resumed"]
    assert resumed == [{"step": 6, "changes": {"environment.processes": [2, 1]}}]
    last = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert last["nelbo"]["resumed"] == resumed and last["nelbo"]["environment"]["processes"] == 1
    assert len(last["random_states"]["ranks"]) == 1


def test_other_versions_are_said_and_recorded(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    changed(tmp_path / "run", "last", lambda checkpoint: checkpoint["nelbo"]["environment"].update(hydra="0.1"))
    done = run(tmp_path / "run", [*CHOSEN, "threads=1"])
    assert done.returncode == 0 and "from step 9 on with hydra" in done.stderr, done.stderr
    (entry,) = json.loads((tmp_path / "run" / "metrics.json").read_text())["resumed"]
    assert entry["step"] == 9 and entry["changes"]["environment.hydra"][0] == "0.1"

"""Runs to evaluate, and the facts of their evaluations."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from nelbo.finished.run import FinishedRun
from tests.helpers.forks import train_all

SCRIPT = "scripts/evaluate.py"


def copy_run(run: Path, folder: Path, names: Iterable[str]) -> None:
    """Copy a run into a folder, under several names."""
    for name in names:
        shutil.copytree(run, folder / name)


def train_smoke(folder: Path, runs: Mapping[str, list[str]]) -> None:
    """Train smoke runs into a folder, by name; their output is in `logs`."""
    (folder / "logs").mkdir()
    arguments = {name: [*run, "trainer=smoke", f"hydra.run.dir={folder / name}"] for name, run in runs.items()}
    done = train_all(arguments, folder / "logs")
    assert all(run.returncode == 0 for run in done.values()), done


def facts_of(run: Path) -> dict[str, object]:
    """The facts of an evaluation of a run's test images."""
    finished = FinishedRun.open(run)
    facts = {key: finished.provenance[key] for key in ("data_sha256", "protocol")}
    return {**facts, "checkpoint_sha256": finished.sha256, "split": "test", "evaluation_seed": 0}

"""Runs that are stopped and go on, beside the run that nobody stopped."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, equal

from nelbo.checkpoints.record import read_checkpoint
from tests.helpers.forks import Done, forked

NOWHERE = "nowhere:0:SIGTERM"
SMALL = ("model=mlp_vae", "data=digits", "callbacks=none", "logger=none", "trainer.check_val_every_n_epoch=1")
"""Six steps and one validation batch an epoch."""

FREE = {
    "commit",
    "seconds",
    "cpu_seconds",
    "train_seconds",
    "train_cpu_seconds",
    "images_per_second",
    "num_workers",
    "logs",
}
COUNTERS = {"epoch_loop.val_loop.batch_progress"}
"""Lightning counts the batches of a validation twice that had to begin anew; nothing reads it."""


def run(folder: Path, overrides: Sequence[str], fault: str = NOWHERE) -> Done:
    """Start a run, or go on with it, until its end or the fault."""
    return forked("tests/helpers/stopping.py", fault, *SMALL, *overrides, f"hydra.run.dir={folder}", "resume=auto")


def interrupted(folder: Path, overrides: Sequence[str], faults: Sequence[str]) -> None:
    """A run that meets all faults, one after another, and ends well."""
    for fault in faults:
        done = run(folder, overrides, fault)
        assert done.returncode in (-9, 143), (fault, done.returncode, done.stderr)
    done = run(folder, overrides)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr


def assert_same_run(one: Path, other: Path, but: Sequence[str] = ()) -> None:
    """Every number of the two checkpoints, the result and the history, bit for bit, but for times and for `but`."""
    for name in ("best", "last"):
        checkpoints = [read_checkpoint(folder / "checkpoints" / f"{name}.ckpt") for folder in (one, other)]
        assert set(differences(*checkpoints)) <= set(but), name
    assert set(differences(*(json.loads((folder / "metrics.json").read_text()) for folder in (one, other)))) <= set(but)
    for table in ("history.csv", "kl_per_unit.csv"):
        assert (one / table).exists() == (other / table).exists()
        if (one / table).exists():
            assert differences(rows(one / table), rows(other / table)) == []


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two trees of plain containers and tensors differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = [key for key in {**one, **other} if key not in FREE | COUNTERS]
        return [told for key in keys for told in differences(one.get(key), other.get(key), f"{path}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [told for index, pair in pairs for told in differences(*pair, f"{path}[{index}]")]
    same = equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one == other
    return [] if same else [path]

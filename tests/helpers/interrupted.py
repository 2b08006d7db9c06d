"""Runs that are interrupted and resumed, and their comparison with runs that were not."""

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
SMALL = ("model=tanh_mlp_vae", "data=digits", "callbacks=none", "logger=none", "trainer.check_val_every_n_epoch=1")
"""Six steps and one validation batch per epoch."""

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
"""Keys whose values may differ between two runs that are otherwise equal."""
COUNTERS = {"epoch_loop.val_loop.batch_progress"}
"""Counters that may differ: Lightning counts the batches of a restarted validation twice. Nothing reads them."""


def run(folder: Path, overrides: Sequence[str], fault: str = NOWHERE) -> Done:
    """Start or resume a run, until its end or the fault.

    Args:
        folder: the directory of the run.
        overrides: added to `SMALL`.
        fault: PLACE:NUMBER:SIGNAL, see tests/helpers/stopping.py.
    """
    return forked("tests/helpers/stopping.py", fault, *SMALL, *overrides, f"hydra.run.dir={folder}", "resume=auto")


def interrupted(folder: Path, overrides: Sequence[str], faults: Sequence[str]) -> None:
    """Run with all faults, one after another, resuming after each, until the end."""
    for fault in faults:
        done = run(folder, overrides, fault)
        assert done.returncode in (-9, 143), (fault, done.returncode, done.stderr)
    done = run(folder, overrides)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr


def assert_same_run(one: Path, other: Path, but: Sequence[str] = ()) -> None:
    """Assert that checkpoints, results and histories of two runs are equal, bit for bit.

    Args:
        one: directory of a run.
        other: directory of another run.
        but: paths of values that may differ, in addition to times.
    """
    for name in ("best", "last"):
        checkpoints = [read_checkpoint(folder / "checkpoints" / f"{name}.ckpt") for folder in (one, other)]
        assert set(differences(*checkpoints)) <= set(but), name
    assert set(differences(*(json.loads((folder / "metrics.json").read_text()) for folder in (one, other)))) <= set(but)
    for table in ("history.csv", "kl_per_unit.csv"):
        assert (one / table).exists() == (other / table).exists()
        if (one / table).exists():
            assert differences(rows(one / table), rows(other / table)) == []


def rows(file: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Return the paths at which two trees of plain containers and tensors differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = [key for key in {**one, **other} if key not in FREE | COUNTERS]
        return [place for key in keys for place in differences(one.get(key), other.get(key), f"{path}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [place for index, pair in pairs for place in differences(*pair, f"{path}[{index}]")]
    is_same = equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one == other
    return [] if is_same else [path]

"""evaluation.json and evaluation.npz of a run: whole or not at all, and nothing lost that is still true."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nelbo.errors import ConfigError, DataError, first_line
from nelbo.evaluation.measure import Findings, Scalar

JSON, ARRAYS = "evaluation.json", "evaluation.npz"
MEASURES = "measures"
IDENTITY = ("checkpoint_sha256", "data_sha256", "protocol", "split", "evaluation_seed")
"""Numbers that differ in one of these do not stand in one file."""


class Results:
    """What is known of a run, from earlier evaluations too.

    Values are flat, as in metrics.json: `test/nll`. Beside them stands what they were measured on and, below
    `measures`, by measure: its settings, which keys are its own, its recipe, warnings and seconds.

    Args:
        folder: the run's.
        facts: what the numbers are of; among them those of `IDENTITY`.

    Raises:
        DataError: if an earlier file cannot be read.
        ConfigError: if the folder cannot be written to.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Scalar]) -> None:
        self.folder, self.facts = folder, dict(facts)
        self.file = folder / JSON
        if not os.access(folder, os.W_OK):
            raise ConfigError("run", folder, "cannot be written to, so evaluation.json has no place", located=True)
        known = read_evaluation(self.file)
        same = all(known.get(key) == facts[key] for key in IDENTITY)
        self.replaces = bool(known) and not same
        self.values: dict[str, Any] = known if known and same else {}
        self.values |= self.facts
        self.measures: dict[str, dict[str, Any]] = self.values.pop(MEASURES, {})
        self.arrays: dict[str, Tensor] = read_arrays(folder / ARRAYS) if same else {}

    def add(self, measure: str, findings: Findings, settings: Mapping[str, Any], seconds: float) -> None:
        """Take what a measure found, in place of what it found before, and write."""
        split = self.facts["split"]
        for key in self.measures.get(measure, {}).get("keys", ()):
            self.values.pop(key, None)
            self.arrays.pop(key, None)
        found = {f"{split}/{key}": value for key, value in findings.values.items()}
        arrays = {f"{split}/{key}": values for key, values in findings.per_image.items()}
        self.values |= found
        self.arrays |= arrays
        self.measures[measure] = {
            "keys": list(found | arrays),
            "settings": {key: value for key, value in settings.items() if key != "_target_"},
            "recipe": findings.recipe,
            "warnings": findings.warnings,
            "seconds": round(seconds, 1),
        }
        self.write()

    def write(self) -> None:
        """Both files; what is there of another checkpoint, split or seed is kept under a free name."""
        if self.replaces:
            set_aside(self.folder)
            self.replaces = False
        if self.arrays:
            partial = self.folder / f".{ARRAYS}.{os.getpid()}.npz"
            np.savez(partial, **{key: values.numpy() for key, values in self.arrays.items()})  # type: ignore[arg-type]
            os.replace(partial, self.folder / ARRAYS)
        partial = self.folder / f".{JSON}.{os.getpid()}"
        partial.write_text(json.dumps({**self.values, MEASURES: self.measures}, indent=2) + "\n")
        os.replace(partial, self.file)


def set_aside(folder: Path) -> None:
    """Rename evaluation.json and .npz to evaluation-1.json, -2, ...: the first that is free."""
    number = next(n for n in range(1, 10**6) if not (folder / f"evaluation-{n}.json").exists())
    for name in (ARRAYS, JSON):
        if (folder / name).exists():
            os.replace(folder / name, folder / f"evaluation-{number}{Path(name).suffix}")


def read_evaluation(file: Path) -> dict[str, Any]:
    """What an evaluation.json says; nothing if there is none.

    Raises:
        DataError: if it is damaged.
    """
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({first_line(error)}); move it away") from error
    if not isinstance(found, dict):
        raise DataError(f"{file}: is not an evaluation; move it away")
    return found


def read_arrays(file: Path) -> dict[str, Tensor]:
    """The values of each image, by key; nothing if there is no file.

    Raises:
        DataError: if it is damaged.
    """
    if not file.exists():
        return {}
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise DataError(f"{file}: cannot be read ({first_line(error)}); move it away") from error

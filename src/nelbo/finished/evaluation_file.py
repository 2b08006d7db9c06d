"""evaluation.json and evaluation.npz of a run: whole or not at all, and nothing lost that is still true."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from nelbo.directories.names import EVALUATION, EVALUATION_ARRAYS, EVALUATION_LOCK
from nelbo.errors import ConfigError, DataError, first_line
from nelbo.evaluation.measure import Findings, Scalar
from nelbo.files import atomic, sweep_partial, write_json
from nelbo.running.directory import set_aside

JSON, ARRAYS = EVALUATION, EVALUATION_ARRAYS
MEASURES = "measures"
IDENTITY = ("checkpoint_sha256", "data_sha256", "protocol", "split", "evaluation_seed")
"""Numbers that differ in one of these do not stand in one file."""


class Results:
    """What is known of a run, from earlier evaluations too.

    Values are flat, as in metrics.json: `test/nll`. Beside them stands what they were measured on and, below
    `measures`, by measure: its settings, which keys are its own, its recipe, warnings, seconds, and environment:
    measures of one file may have been taken with different versions.

    Args:
        folder: the run's.
        facts: what the numbers are of; among them those of `IDENTITY`.

    Raises:
        DataError: if an earlier file cannot be read.
        ConfigError: if the folder cannot be written to.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Scalar]) -> None:
        self.folder, self.facts = folder, dict(facts)
        self.values: dict[str, Any] = dict(facts)
        self.measures: dict[str, dict[str, Any]] = {}
        self.arrays: dict[str, Tensor] = {}
        try:
            with self._locked():
                self._read()
        except OSError as error:
            told = f"cannot be written to ({first_line(error)}); out=DIRECTORY takes the results instead"
            raise ConfigError("run", folder, told, located=True) from error

    def add(
        self,
        measure: str,
        findings: Findings,
        settings: Mapping[str, Any],
        seconds: float,
        environment: Mapping[str, Any] | None = None,
    ) -> None:
        """Take what a measure found, in place of what it found before, and write: whole, and with what others wrote."""
        split = self.facts["split"]
        found = {f"{split}/{key}": value for key, value in findings.values.items()}
        arrays = {f"{split}/{key}": values for key, values in findings.per_image.items()}
        with self._locked():
            self._read()
            for key in self.measures.get(measure, {}).get("keys", ()):
                self.values.pop(key, None)
                self.arrays.pop(key, None)
            self.values |= found
            self.arrays |= arrays
            self.measures[measure] = {
                "keys": list(found | arrays),
                "settings": {key: value for key, value in settings.items() if key != "_target_"},
                "recipe": findings.recipe,
                "warnings": findings.warnings,
                "seconds": round(seconds, 1),
                "environment": dict(environment or {}),
            }
            self._write()

    def _locked(self) -> FileLock:
        return FileLock(self.folder / EVALUATION_LOCK)

    def _read(self) -> None:
        """Take over what the files say of the same numbers, those that were set aside too."""
        if file := next(filter(self._is_ours, evaluations(self.folder)), None):
            known = read_evaluation(file)
            self.measures = known.pop(MEASURES, {})
            self.values = known | self.facts
            self.arrays = read_arrays(file.with_suffix(".npz"))

    def _is_ours(self, file: Path) -> bool:
        known = read_evaluation(file)
        return all(known.get(key) == self.facts[key] for key in IDENTITY)

    def _write(self) -> None:
        """Both files; what is there of another checkpoint, split or seed is kept under a free name."""
        sweep_partial(self.folder, (JSON, ARRAYS))
        if (self.folder / JSON).exists() and not self._is_ours(self.folder / JSON):
            set_aside(self.folder)
        if self.arrays:
            with atomic(self.folder / ARRAYS) as stream:
                np.savez(stream, **{key: values.numpy() for key, values in self.arrays.items()})  # type: ignore[arg-type]
        else:
            (self.folder / ARRAYS).unlink(missing_ok=True)
        write_json(self.folder / JSON, without_infinities({**self.values, MEASURES: self.measures}))
        for file in evaluations(self.folder)[1:]:
            if self._is_ours(file):  # what had been set aside is in the first again
                file.with_suffix(".npz").unlink(missing_ok=True)
                file.unlink()


def without_infinities(content: Any) -> Any:
    """The same with None for what is not finite, which JSON does not have."""
    if isinstance(content, Mapping):
        return {key: without_infinities(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_infinities(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def evaluations(folder: Path) -> list[Path]:
    """evaluation.json, and those that were set aside."""
    return [file for file in (folder / JSON, *sorted(folder.glob("evaluation-*.json"))) if file.is_file()]


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
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: cannot be read ({first_line(error)}); move it away") from error

"""The files evaluation.json and evaluation.npz of a run: read, updated measure by measure, and written atomically."""

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
from nelbo.evaluation.measure import Findings
from nelbo.files import atomic, sweep_partial, write_json
from nelbo.running.directory import set_aside

JSON, ARRAYS = EVALUATION, EVALUATION_ARRAYS
MEASURES = "measures"
IDENTITY = ("checkpoint_sha256", "data_sha256", "protocol", "split", "evaluation_seed", "at")
"""Facts that are the same for all values of one file."""


class Results:
    """The results of a run, including those of earlier evaluations.

    Values are flat, as in metrics.json: `test/nll`. The file also has the facts and, for each measure below `measures`,
    its keys, settings, recipe, warnings, seconds and environment; the measures of one file may have been taken with
    different versions.

    Args:
        folder: the folder of the files.
        facts: the data, checkpoint, split and seed that the values belong to, and `at`, the setting of a model that was
            trained for many; among them those of `IDENTITY`.

    Raises:
        DataError: if an earlier file cannot be read.
        ConfigError: if the folder cannot be written.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder, self.facts = folder, dict(facts)
        self.values: dict[str, Any] = dict(facts)
        self.measures: dict[str, dict[str, Any]] = {}
        self.arrays: dict[str, Tensor] = {}
        try:
            with self._locked():
                self._read()
        except OSError as error:
            hint = f"cannot be written ({first_line(error)}); out=DIRECTORY writes the results elsewhere"
            raise ConfigError("run", folder, hint, located=True) from error

    def add(
        self,
        measure: str,
        findings: Findings,
        settings: Mapping[str, Any],
        seconds: float,
        environment: Mapping[str, Any] | None = None,
    ) -> None:
        """Replace the values of a measure and write the files, with the values that other processes have written.

        Args:
            measure: the name of the measure.
            findings: its results.
            settings: its settings in the config.
            seconds: how long it took.
            environment: versions and hardware.
        """
        split = self.facts["split"]
        values = {f"{split}/{key}": value for key, value in findings.values.items()}
        arrays = {f"{split}/{key}": per_image for key, per_image in findings.per_image.items()}
        with self._locked():
            self._read()
            for key in self.measures.get(measure, {}).get("keys", ()):
                self.values.pop(key, None)
                self.arrays.pop(key, None)
            self.values |= values
            self.arrays |= arrays
            self.measures[measure] = {
                "keys": list(values | arrays),
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
        """Read the file with the same facts, which may have been set aside."""
        if file := next(filter(self._has_same_facts, evaluations(self.folder)), None):
            content = read_evaluation(file)
            self.measures = content.pop(MEASURES, {})
            self.values = content | self.facts
            self.arrays = read_arrays(file.with_suffix(".npz"))

    def _has_same_facts(self, file: Path) -> bool:
        content = read_evaluation(file)
        return all(content.get(key) == self.facts.get(key) for key in IDENTITY)

    def _write(self) -> None:
        """Write both files; those of another checkpoint, split or seed are renamed first."""
        sweep_partial(self.folder, (JSON, ARRAYS))
        if (self.folder / JSON).exists() and not self._has_same_facts(self.folder / JSON):
            set_aside(self.folder)
        if self.arrays:
            with atomic(self.folder / ARRAYS) as stream:
                np.savez(stream, **{key: values.numpy() for key, values in self.arrays.items()})  # type: ignore[arg-type]
        else:
            (self.folder / ARRAYS).unlink(missing_ok=True)
        write_json(self.folder / JSON, without_infinities({**self.values, MEASURES: self.measures}))
        for file in evaluations(self.folder)[1:]:
            if self._has_same_facts(file):  # it had been set aside; its values are in evaluation.json again
                file.with_suffix(".npz").unlink(missing_ok=True)
                file.unlink()


def without_infinities(content: Any) -> Any:
    """Return nested containers with None for numbers that are not finite, which JSON does not have."""
    if isinstance(content, Mapping):
        return {key: without_infinities(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_infinities(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def evaluations(folder: Path) -> list[Path]:
    """Return the path of evaluation.json and of those that were set aside, as far as they exist."""
    return [file for file in (folder / JSON, *sorted(folder.glob("evaluation-*.json"))) if file.is_file()]


def read_evaluation(file: Path) -> dict[str, Any]:
    """Return the content of an evaluation.json; empty if the file does not exist.

    Raises:
        DataError: if it is damaged.
    """
    if not file.exists():
        return {}
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({first_line(error)}); move it away") from error
    if not isinstance(content, dict):
        raise DataError(f"{file}: is not an evaluation; move it away")
    return content


def read_arrays(file: Path) -> dict[str, Tensor]:
    """Return the values of each image, (N,) or (N, ...), by key; empty if the file does not exist.

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

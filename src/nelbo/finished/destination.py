"""Where the results of an evaluation are written: the runs' own directories, or what `out=` names."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nelbo.errors import ConfigError, first_line, path
from nelbo.finished.run import FinishedRun

COMPARISON = "comparison.json"


@dataclass(frozen=True)
class Destination:
    """Where the results of an evaluation are written.

    Args:
        folder: a directory for all results; None for the runs' own directories.
        comparison: the file for the comparison of several runs; None for no file.
        runs: the number of runs.
    """

    folder: Path | None
    comparison: Path | None
    runs: int

    @classmethod
    def check(cls, out: object, runs: int) -> Destination:
        """Return the destination that `out` names, after checking that it can be written; called before measuring.

        A directory, which is made, takes the results of one run, or a folder for each of several runs and their
        comparison. A file that ends in .json takes the comparison of several runs alone.

        Args:
            out: the config's `out`.
            runs: the number of runs.

        Raises:
            ConfigError: if it cannot be written.
        """
        if out is None:
            return cls(None, None, runs)
        place = path("out", out)
        if place.suffix == ".json" and not place.is_dir():
            if runs == 1:
                hint = "is for the comparison of several runs: run=[a,b]; for one run give a directory: out=DIR"
                raise ConfigError("out", place, hint, located=True)
            if not os.access(place if place.exists() else place.parent, os.W_OK):
                raise ConfigError("out", place, "cannot be written", located=True)
            return cls(None, place, runs)
        try:
            place.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()
        except OSError as error:
            hint = f"cannot be written: {error.strerror or first_line(error)}"
            raise ConfigError("out", place, hint, located=True) from error
        return cls(place, place / COMPARISON if runs > 1 else None, runs)

    def folder_of(self, run: FinishedRun, name: str) -> Path:
        """Return the folder for the results of a run, which exists then.

        Args:
            run: the run.
            name: its name among the evaluated runs.
        """
        if self.folder is None:
            return run.folder
        folder = self.folder / name if self.runs > 1 else self.folder
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def refuse_full(out: Path) -> None:
    """Refuse a folder for new files that exists already, unless it is empty.

    Raises:
        ConfigError: if it is a file, or has files in it.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("out", out, "exists already; give another name", located=True)

"""Where the results of an evaluation go: into the runs' own directories, or somewhere else where `out=` says so."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nelbo.errors import ConfigError, first_line, path
from nelbo.finished.run import FinishedRun

COMPARISON = "comparison.json"


@dataclass(frozen=True)
class Out:
    """What `out=` says.

    Args:
        home: a directory for all results; None for the runs' own.
        comparison: a file for the comparison of several runs; None for none.
        runs: how many there are.
    """

    home: Path | None
    comparison: Path | None
    runs: int

    @classmethod
    def check(cls, out: object, runs: int) -> Out:
        """What `out` means, once it is known that it can be written: asked before hours of measuring.

        A directory, which is made, takes the results of one run, or a folder for each of several and their comparison.
        Of several runs a file that ends in .json takes the comparison alone.

        Raises:
            ConfigError: if nothing can be written there.
        """
        if out is None:
            return cls(None, None, runs)
        place = path("out", out)
        if place.suffix == ".json" and not place.is_dir():
            if runs == 1:
                hint = "is for the comparison of several runs: run=[a,b]; results of one go into a directory: out=DIR"
                raise ConfigError("out", place, hint, located=True)
            if not os.access(place if place.exists() else place.parent, os.W_OK):
                raise ConfigError("out", place, "cannot be written", located=True)
            return cls(None, place, runs)
        try:
            place.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()
        except OSError as error:
            raise ConfigError(
                "out", place, f"cannot be written: {error.strerror or first_line(error)}", located=True
            ) from error
        return cls(place, place / COMPARISON if runs > 1 else None, runs)

    def folder(self, run: FinishedRun, name: str) -> Path:
        """Where the results of one run go, which is there.

        Args:
            run: it.
            name: what it is called among the others.
        """
        if self.home is None:
            return run.folder
        folder = self.home / name if self.runs > 1 else self.home
        folder.mkdir(parents=True, exist_ok=True)
        return folder

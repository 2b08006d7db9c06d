"""Where the cells of a report come from, if not from trainings of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nelbo.files import read_json, write_json

ORIGIN = "surface.json"
"""The file that says that the cells of a directory are settings of one training."""


@dataclass(frozen=True)
class OriginPicture:
    """A picture of all settings together.

    Args:
        file: the PNG file, relative to the directory of the report.
        title: the heading above it.
        caption: what it shows.
    """

    file: str
    title: str
    caption: str


@dataclass(frozen=True)
class Origin:
    """The training that all cells of a report are settings of.

    Args:
        run: its directory.
        checkpoint: the SHA-256 digest of the checkpoint that was measured.
        text: what a reader must know of it, in sentences.
        pictures: of all settings together.
    """

    run: str
    checkpoint: str
    text: str
    pictures: Sequence[OriginPicture] = ()

    @classmethod
    def read(cls, folder: Path) -> Origin | None:
        """Read the origin of a report's cells; None if each has a training of its own."""
        stored = read_json(folder / ORIGIN)
        if not stored:
            return None
        pictures = tuple(OriginPicture(**entry) for entry in stored.pop("pictures"))
        return cls(pictures=pictures, **stored)

    def write(self, folder: Path) -> None:
        """Write it into the directory of a report."""
        write_json(folder / ORIGIN, dataclasses.asdict(self))

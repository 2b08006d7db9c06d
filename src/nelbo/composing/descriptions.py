"""The groups of the configs and their options, each with the line that its file begins with."""

from __future__ import annotations

import re
from pathlib import Path

from nelbo.composing.command import primary_groups

PRIMARIES = ("config", "evaluate", "draw")
"""The primary configs whose groups are listed: of train, evaluate and draw."""


def groups(folder: Path) -> dict[str, dict[str, str]]:
    """Return the description of each option, by group and option.

    Args:
        folder: of the configs.
    """
    names = [name for primary in PRIMARIES for name in primary_groups(folder / f"{primary}.yaml")]
    found = sorted({name for name in names if (folder / name).is_dir() and not name.startswith("hydra/")})
    return {name: {file.stem: description(file) for file in sorted((folder / name).glob("*.yaml"))} for name in found}


def description(file: Path) -> str:
    """Return the first sentence of the comment at the top of a config file, without its full stop; empty without one.

    A line `# @package ...`, which Hydra reads, is left out.
    """
    words: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        words += line.removeprefix("#").split()
    sentence = re.split(r"(?<! al)\. ", " ".join(words), maxsplit=1)[0]  # "et al. 2016" does not end one
    return sentence.removesuffix(".")

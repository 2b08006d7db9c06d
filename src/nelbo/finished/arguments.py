"""What is typed behind `run=` and `data.KEY=`: Hydra would read the one as its own signs and refuse the other."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from nelbo.config.quoting import quoted

KEY, DATA = "run=", "data."
PATTERN_SIGNS = frozenset("*?")


def quote_runs(arguments: Sequence[str]) -> list[str]:
    """The arguments with every path behind `run=` in quotes; patterns become the paths that they match.

    The directories of a sweep's cells are named by what was swept, `0-latent_dim=2,beta=4`, so a list is split at those
    commas only that end a path.
    """
    return [
        KEY + _as_hydra_reads(argument[len(KEY) :]) if argument.startswith(KEY) else argument for argument in arguments
    ]


def open_data(arguments: Sequence[str]) -> list[str]:
    """The arguments with `data.KEY=` written as Hydra takes a key that no config file has: `+data.KEY=`."""
    return [f"+{argument}" if argument.startswith(DATA) else argument for argument in arguments]


def packages(typed: str) -> list[str]:
    """The packages in `[first.,second.]`, the brackets left out or not."""
    return [name.strip() for name in typed.strip("[]").split(",") if name.strip()]


def _as_hydra_reads(typed: str) -> str:
    if not typed or typed[0] in "'\"" or _is_quoted_list(typed):
        return typed
    if typed.startswith("[") and typed.endswith("]"):
        return f"[{','.join(map(quoted, _paths(typed[1:-1])))}]"
    if Path(typed).exists():
        return quoted(typed)
    if PATTERN_SIGNS & set(typed) and (found := matches(typed)):
        return f"[{','.join(map(quoted, found))}]"
    several = "," in typed and all(Path(piece).exists() for piece in typed.split(","))
    return typed if several else quoted(typed)  # several without brackets: Hydra says how a list is written


def _is_quoted_list(typed: str) -> bool:
    return typed[:2] in ("['", '["')


def _paths(typed: str) -> list[str]:
    """The paths of a list: pieces are joined again as long as only that makes a path."""
    pieces, paths = [piece.strip() for piece in typed.split(",") if piece.strip()], []
    while pieces:
        longest = next((n for n in range(len(pieces), 0, -1) if Path(",".join(pieces[:n])).exists()), 1)
        path = ",".join(pieces[:longest])
        paths += (matches(path) or [path]) if PATTERN_SIGNS & set(path) else [path]
        pieces = pieces[longest:]
    return paths


def matches(pattern: str) -> list[str]:
    """Run directories and checkpoints that a pattern matches: a sweep's directory holds other things too.

    Brackets are part of names.
    """
    found = sorted(glob.glob(pattern.replace("[", "[[]")))
    return [path for path in found if path.endswith(".ckpt") or (Path(path) / "checkpoints" / "best.ckpt").is_file()]

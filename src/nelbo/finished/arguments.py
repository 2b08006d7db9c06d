"""The arguments `run=PATH`, `data.KEY=VALUE` and `at.KEY=VALUE`, rewritten so that Hydra accepts them as typed."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path

from nelbo.config.quoting import quoted
from nelbo.errors import ConfigError

RUN, DATA, AT = "run=", "data.", "at."
WILDCARDS = frozenset("*?")


def quote_runs(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the paths of `run=` in quotes, and patterns replaced by the paths that they match.

    The directories of a sweep's cells have names such as `0-latent_dim=2,beta=4`, so a list is split only at commas
    that end an existing path.
    """
    return [
        RUN + _quote_paths(argument[len(RUN) :]) if argument.startswith(RUN) else argument for argument in arguments
    ]


def add_keys(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with `+data.KEY=` for `data.KEY=`, as Hydra requires for keys that no config file has.

    So are the keys `at.KEY=`.
    """
    return [f"+{argument}" if argument.startswith((DATA, AT)) else argument for argument in arguments]


def packages(typed: str) -> list[str]:
    """Return the packages of a list, with or without its brackets.

    Examples:
        >>> packages("[first.,second.]")
        ['first.', 'second.']
    """
    return [name.strip() for name in typed.strip("[]").split(",") if name.strip()]


def run_paths(typed: str) -> list[str]:
    """Return the paths of `run=`: one path, a list of them in brackets, or what a pattern matches.

    Examples:
        >>> run_paths("outputs/one"), run_paths("[outputs/one,outputs/two]")
        (['outputs/one'], ['outputs/one', 'outputs/two'])
    """
    if Path(typed).exists():
        return [typed]
    return _paths(typed[1:-1] if typed.startswith("[") and typed.endswith("]") else typed)


def numbers(prefix: str, typed: Mapping[str, str]) -> dict[str, float]:
    """Return the values of typed keys that take numbers; whole ones where they are written so.

    Args:
        prefix: what stands before the keys, for errors.
        typed: the values as they are typed, by key.

    Raises:
        ConfigError: for a value that is no number.

    Examples:
        >>> numbers(AT, {"beta": "0.5", "latent_dim": "8"})
        {'beta': 0.5, 'latent_dim': 8}
    """
    values: dict[str, float] = {}
    for key, text in typed.items():
        try:
            values[key] = int(text) if text.removeprefix("-").isdecimal() else float(text)
        except ValueError as error:
            raise ConfigError(f"{prefix}{key}", text, "must be a number", located=True) from error
    return values


def _quote_paths(typed: str) -> str:
    """Return a path, a list of paths or a pattern with its paths in quotes."""
    if not typed or typed[0] in "'\"" or _is_quoted_list(typed):
        return typed
    if typed.startswith("[") and typed.endswith("]"):
        return f"[{','.join(map(quoted, _paths(typed[1:-1])))}]"
    if Path(typed).exists():
        return quoted(typed)
    if WILDCARDS & set(typed) and (paths := matches(typed)):
        return f"[{','.join(map(quoted, paths))}]"
    is_list = "," in typed and all(Path(part).exists() for part in typed.split(","))
    return typed if is_list else quoted(typed)  # a list without brackets is left to Hydra's own error


def _is_quoted_list(typed: str) -> bool:
    return typed[:2] in ("['", '["')


def _paths(typed: str) -> list[str]:
    """Return the paths of a comma-separated list; parts are joined again where they are one existing path together."""
    parts, paths = [part.strip() for part in typed.split(",") if part.strip()], []
    while parts:
        count = next((n for n in range(len(parts), 0, -1) if Path(",".join(parts[:n])).exists()), 1)
        path = ",".join(parts[:count])
        paths += (matches(path) or [path]) if WILDCARDS & set(path) else [path]
        parts = parts[count:]
    return paths


def matches(pattern: str) -> list[str]:
    """Return the run directories and checkpoints that a pattern matches, sorted, without other files and directories.

    Args:
        pattern: with `*` and `?` as wildcards; brackets are part of names.
    """
    paths = sorted(glob.glob(pattern.replace("[", "[[]")))
    return [path for path in paths if path.endswith(".ckpt") or (Path(path) / "checkpoints" / "best.ckpt").is_file()]

"""Tab completion in bash, zsh and fish: commands, groups with their options, keys and files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import argcomplete
from argcomplete.shell_integration import shellcode

from nelbo.composing.command import SPECIAL_KEYS, Command
from nelbo.composing.places import PRIMARY, SHIPPED

PRIMARIES = {"train": PRIMARY, "evaluate": "evaluate", "draw": "draw"}
FLAGS = {"train": ["--multirun", "--cfg", "--config-dir", "--hydra-help", "--help"]}
KEYS_OF_FILES = (
    *("run", "with", "resume", "init_from", "sweep", "bundle", "out"),
    *("data.path", "data.root", "extractor.weights"),
)
"""Keys whose values are paths."""

PLAIN_KEYS = {
    "explore": [
        *("run", "split", "images", "port", "idle_minutes"),
        *("device", "threads", "batch_size", "allow_targets"),
    ],
    "fold": ["run", "at.beta", "at.latent_dim", "out", "allow_targets"],
    "impute": [
        *("run", "data.path", "out", "fill", "num_samples"),
        *("seed", "batch_size", "device", "allow_targets"),
    ],
    "sample": ["run", "rows", "out", "label", "seed", "device", "allow_targets"],
    "report": ["sweep", "run", "with", "limit", "watch", "allow_targets"],
    "replay": ["bundle", "allow_targets"],
    "reproduce": ["row", "seed", "threads", "limit", "num_samples", "run", "out"],
}
VERBS = ("list", "fetch", "show", "verify")


def script(shell: str) -> str:
    """Return what a shell has to read for completion of the command `nelbo`."""
    return str(shellcode(["nelbo"], shell=shell))


def complete(parser: argparse.ArgumentParser, commands: Iterable[argparse.ArgumentParser]) -> None:
    """Answer the shell, if that asks for completions, and exit.

    Args:
        parser: of the first word.
        commands: the parsers of what stands behind it.
    """
    for command in commands:
        name = command.prog.split()[-1]
        action = command.add_argument("arguments", nargs="*")
        action.completer = completer(name)  # type: ignore[attr-defined] # argcomplete's way to attach one
    argcomplete.autocomplete(parser, always_complete_options=False)


def completer(command: str) -> Callable[..., list[str]]:
    """Return a function that completes an argument of a command."""

    def candidates(prefix: str, parsed_args: argparse.Namespace, **options: Any) -> list[str]:
        return matching(command, prefix, list(getattr(parsed_args, "arguments", None) or ()))

    return candidates


def matching(command: str, prefix: str, before: Sequence[str]) -> list[str]:
    """Return the arguments of a command that begin with a prefix.

    Args:
        command: such as train.
        prefix: what is typed of the argument.
        before: the arguments before it.
    """
    key, sign, value = prefix.partition("=")
    if sign and key.lstrip("+") in KEYS_OF_FILES:
        return [f"{key}={path}" for path in files(value)]
    if command in PRIMARIES:
        return of_config(Command(f"nelbo {command}", SHIPPED, PRIMARIES[command]), command, prefix, before)
    if command == "data":
        from nelbo.data.catalogue import CATALOGUE

        known = [name for name in CATALOGUE if " " not in name] if set(VERBS) & set(before) else list(VERBS)
        return [name for name in known if name.startswith(prefix)]
    if command == "reproduce" and (key == "row" or not sign):
        from nelbo.papers.rows import ROWS

        known = [f"row={name}" for name in ROWS] if sign else ["list", *(f"{name}=" for name in PLAIN_KEYS[command])]
        return [name for name in known if name.startswith(prefix)]
    return [f"{name}=" for name in PLAIN_KEYS.get(command, ()) if name.startswith(prefix) and not sign]


def of_config(config: Command, command: str, prefix: str, before: Sequence[str]) -> list[str]:
    """Return the overrides and options of a command with a config that begin with a prefix."""
    if prefix.startswith("-"):
        return [flag for flag in FLAGS.get(command, ["--cfg", "--help"]) if flag.startswith(prefix)]
    key, sign, value = prefix.partition("=")
    if not sign:
        kinds = config.options("picture") if command == "draw" else []
        start = [kind for kind in kinds if kind.startswith(prefix) and not set(kinds) & set(before)]
        groups = [f"{group}=" for group in (*config.defaults, "hydra/launcher", "hydra/sweeper") if group != "picture"]
        names = [group for group in groups if group.startswith(prefix)]
        if prefix and not names:
            keys = [name for name, held in config.config.items() if not isinstance(held, dict)]
            names = [f"{name}=" for name in keys if name.split(".")[-1] not in SPECIAL_KEYS]
        return start + [name for name in names if name.startswith(prefix)]
    first, comma, last = value.rpartition(",")
    bracket = "[" if not comma and last.startswith("[") else ""
    options = config.options(key.lstrip("+")) or values(config, key)
    return [f"{key}={first}{comma}{bracket}{option}" for option in options if option.startswith(last[len(bracket) :])]


def values(config: Command, key: str) -> list[str]:
    """Return the values to choose from of a key that is true or false, and the value of any other."""
    held = config.config.get(key)
    if isinstance(held, bool):
        return ["true", "false"]
    return [] if held is None or isinstance(held, dict | list) or "${" in str(held) else [str(held)]


def files(prefix: str) -> list[str]:
    """Return the paths that begin with a prefix; folders end in a slash."""
    folder, _, name = prefix.rpartition("/")
    place = f"{folder}/" if folder or prefix.startswith("/") else ""
    try:
        entries = sorted(os.scandir(place or "."), key=lambda entry: entry.name)
    except OSError:  # no such folder: there is nothing to complete
        return []
    hidden = name.startswith(".")
    return [
        f"{place}{entry.name}{'/' if entry.is_dir() else ''}"
        for entry in entries
        if entry.name.startswith(name) and entry.name.startswith(".") == hidden
    ]

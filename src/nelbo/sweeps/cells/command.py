"""A job of a sweep as a command of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.conf import HydraConf

from nelbo.composing.places import CONFIG_FLAGS, config_flags
from nelbo.config.quoting import quoted

OF_SWEEPS = ("sweep", "trial", "hydra/launcher", "hydra/sweeper")
"""Overrides, by key and by what their keys begin with, which only a sweep has a use for."""

OF_SWEEPS_BELOW = ("hydra.launcher", "hydra.sweeper", "hydra/sweeper/", "hydra.sweep.", "hydra.run.", "hydra.mode")


def plain_command(start: Sequence[str], hydra: HydraConf, folder: Path) -> list[str]:
    """The command that trains what a job trains, with the same configs and Hydra's own settings.

    Args:
        start: what Python is given to start a run: a script, or `-m` and a module.
        hydra: what Hydra knows of the job.
        folder: of the run, with which the command goes on.
    """
    overrides = [*alone(hydra.overrides.hydra), *alone(hydra.overrides.task)]
    places = [f"hydra.sweep.dir={quoted(str(hydra.sweep.dir))}", f"hydra.run.dir={quoted(str(folder))}"]
    return [sys.executable, *start, *config_flags(hydra), *overrides, *places, "resume=auto"]


def config_words(command: Sequence[str]) -> list[str]:
    """The words of a typed command that say where configs are."""
    words: list[str] = []
    for number, word in enumerate(command):
        name, equals, _ = word.partition("=")
        if name in CONFIG_FLAGS:
            words += [word] if equals else list(command[number : number + 2])
        elif name.lstrip("+") == "hydra.searchpath":
            words.append(word)
    return words


def alone(overrides: Sequence[str]) -> list[str]:
    """The overrides of a job without what only a sweep has a use for."""
    keys = [override.partition("=")[0].lstrip("+~") for override in overrides]
    return [
        override
        for override, key in zip(overrides, keys, strict=True)
        if key not in OF_SWEEPS and not key.startswith(OF_SWEEPS_BELOW)
    ]

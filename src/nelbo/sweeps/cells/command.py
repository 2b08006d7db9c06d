"""The command line of a single run that corresponds to a job of a sweep."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.conf import HydraConf

from nelbo.composing.places import CONFIG_FLAGS, config_flags
from nelbo.config.quoting import quoted

SWEEP_KEYS = ("sweep", "trial", "hydra/launcher", "hydra/sweeper")
"""Keys of overrides that have a meaning in a sweep only."""

SWEEP_PREFIXES = ("hydra.launcher", "hydra.sweeper", "hydra/sweeper/", "hydra.sweep.", "hydra.run.", "hydra.mode")
"""Prefixes of further keys that have a meaning in a sweep only."""


def plain_command(start: Sequence[str], hydra: HydraConf, folder: Path) -> list[str]:
    """Return the command that trains a job of a sweep as a single run, and resumes it if it was interrupted.

    The command uses the same config files and the same settings of Hydra itself as the sweep.

    Args:
        start: what Python is given to start a run: a script, or `-m` and a module.
        hydra: Hydra's config of the job.
        folder: the directory of the run.
    """
    overrides = [*single_run_overrides(hydra.overrides.hydra), *single_run_overrides(hydra.overrides.task)]
    directories = [f"hydra.sweep.dir={quoted(str(hydra.sweep.dir))}", f"hydra.run.dir={quoted(str(folder))}"]
    return [sys.executable, *start, *config_flags(hydra), *overrides, *directories, "resume=auto"]


def config_arguments(command: Sequence[str]) -> list[str]:
    """Return the arguments of a command that say where config files are.

    >>> config_arguments(["python", "train.py", "-m", "-cd", "conf2", "seed=1", "hydra.searchpath=[file:///more]"])
    ['-cd', 'conf2', 'hydra.searchpath=[file:///more]']
    """
    arguments: list[str] = []
    for index, argument in enumerate(command):
        name, equals, _ = argument.partition("=")
        if name in CONFIG_FLAGS:
            arguments += [argument] if equals else list(command[index : index + 2])
        elif name.lstrip("+") == "hydra.searchpath":
            arguments.append(argument)
    return arguments


def single_run_overrides(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of a job without those that have a meaning in a sweep only.

    >>> single_run_overrides(["sweep=seeds", "seed=1", "hydra.launcher.n_jobs=2"])
    ['seed=1']
    """
    keys = [override.partition("=")[0].lstrip("+~") for override in overrides]
    return [
        override
        for override, key in zip(overrides, keys, strict=True)
        if key not in SWEEP_KEYS and not key.startswith(SWEEP_PREFIXES)
    ]

"""Commands that are refused before a run begins, because of how they were typed or started."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from nelbo.errors import ConfigError, NelboError
from nelbo.files import DISK_ERRORS
from nelbo.running.directory import unwritable
from nelbo.sweeps.job import external_world_size
from nelbo.terminal.programs import program


@contextlib.contextmanager
def disk_errors_explained() -> Iterator[None]:
    """A context in which an error of the disk in the run's directory, from any library, becomes one plain line.

    Raises:
        NelboError: for such an error.
    """
    try:
        yield
    except OSError as error:
        folder = Path(HydraConfig.get().runtime.output_dir)
        in_run = error.filename is None or folder in Path(error.filename).parents  # None: raised by a write
        if error.errno not in DISK_ERRORS or not in_run:
            raise
        raise unwritable(folder, error) from error


def refuse_empty_directory() -> None:
    """Refuse an empty run directory: it would be the current directory.

    Raises:
        ConfigError: if that is what was given.
    """
    if not str(HydraConfig.get().run.dir):
        raise ConfigError("hydra.run.dir", "", "must be a directory, such as outputs/NAME")


def refuse_sweep_without_multirun() -> None:
    """Refuse a sweep that was chosen for a single run.

    Raises:
        ConfigError: if a sweep was chosen without `-m`.
    """
    chosen = HydraConfig.get().runtime.choices.get("sweep", "none")
    if chosen != "none":
        hint = f"is for many runs, which needs -m: {program('train')} -m sweep={chosen} ..."
        raise ConfigError("sweep", chosen, hint)


def refuse_scattered_processes() -> None:
    """Refuse processes of one run that would each name the run's directory by their own clock.

    Raises:
        NelboError: if torchrun or srun started several processes and no directory was given.
    """
    given = any(override.startswith("hydra.run.dir=") for override in HydraConfig.get().overrides.hydra)
    given |= any(argument.startswith("resume=") and argument != "resume=auto" for argument in sys.argv[1:])
    if external_world_size() > 1 and not given:
        directory = HydraConfig.get().run.dir
        hint = "every process must write to the same directory; give one: hydra.run.dir=outputs/NAME"
        raise NelboError(f"hydra.run.dir: {hint} (this process would have taken {directory})")

"""From a command line to a run: Hydra's decorator, with its errors as one line and exit status 2."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from nelbo.commands.resolvers import register_resolvers
from nelbo.composing.compat import hydra_options as hydra_options
from nelbo.composing.script import Script
from nelbo.config.keys import TYPED_KEYS as TYPED_KEYS
from nelbo.errors import USAGE_ERROR, ConfigError, NelboError, Stopped
from nelbo.files import DISK_ERRORS
from nelbo.messages.explain import explain as explain
from nelbo.messages.unread import refuse_left_out, refuse_unread
from nelbo.messages.words import check_words
from nelbo.running.directory import how_to_write, unwritable
from nelbo.running.first_command import hint_for, with_first_words
from nelbo.sweeps.job import run_cell, world_size_from_outside
from nelbo.terminal.streams import outlive_readers

log = logging.getLogger(__name__)
HYDRA_MAY_MAKE = (
    "nelbo.sweeps.own_targets.AllowTargets",
    "nelbo.sweeps.callback.DirectoryCallback",
    "nelbo.sweeps.callback.ReportCallback",
    "logging.*",
)
HYDRA_REFUSES = ("Config group override must be", "Unable to configure handler", "invalid literal for int()")
"""How the ValueErrors begin with which Hydra ends before a run has begun."""

Task = Callable[[DictConfig], Any]


def command(config_path: str, config_name: str, *, trains: bool = True) -> Callable[[Task], Callable[[], None]]:
    """`hydra.main` for a script; what the user can put right ends in one line on stderr and exit status 2.

    Args:
        config_path: of the configs, from the script's folder.
        config_name: of the primary one.
        trains: whether it makes runs, and can make many of them; a script that reads them sweeps nothing.
    """

    def decorate(task: Task) -> Callable[[], None]:
        script = os.path.abspath(task.__code__.co_filename)  # in a worker sys.argv is the worker's
        typed = Script(os.path.relpath(script), Path(script).parent / config_path, config_name)
        told = functools.partial(explain, script=typed)
        begun = False

        @functools.wraps(task)
        def careful(config: DictConfig) -> Any:
            refuse_unread(config, typed)
            with disk_errors_told():
                return task(config)

        @functools.wraps(task)
        def quiet(config: DictConfig) -> Any:
            nonlocal begun
            begun = True
            register_resolvers()  # a worker may not have come through `entry`
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                return run_cell(careful, config, script, told)
            try:
                if trains:
                    refuse_no_directory()
                    refuse_half_a_sweep()
                    refuse_scattered_processes()
                else:
                    refuse_left_out(config, typed)
                return careful(config)
            except (NelboError, OmegaConfBaseException) as error:
                log.error("error: %s", told(error))
                sys.exit(USAGE_ERROR)

        main = hydra.main(config_path=config_path, config_name=config_name, **main_options())(quiet)

        @functools.wraps(task)
        def entry() -> None:
            outlive_readers()
            register_resolvers()
            logging.captureWarnings(True)
            # Where a line cannot be logged, on a full disk or a terminal that is gone, it is no reason for a traceback
            # on stderr: whatever the run needs to write says so itself.
            logging.raiseExceptions = False
            words = sys.argv[1:]
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions reach us instead of Hydra's own printer
            try:
                if not trains and {"-m", "--multirun"} & set(sys.argv[1:]):
                    raise NelboError("-m: is for training; several runs are a list: run=[a,b]")
                check_words(sys.argv[1:], typed)
                if trains:
                    sys.argv[1:] = with_first_words(sys.argv[1:])
                main()
            except (NelboError, HydraException, OmegaConfBaseException) as error:
                message = told(error)
                print(f"error: {message}{hint_for(message, words, sys.argv[1:])}", file=sys.stderr)
                sys.exit(USAGE_ERROR)
            except OSError as error:
                if begun and error.errno not in DISK_ERRORS:
                    raise
                place = error.filename or "the directory of the run"  # which Hydra makes
                hint = f"{how_to_write(error)}: hydra.run.dir=..., or hydra.sweep.dir=... with -m"
                print(f"error: {place}: cannot be written ({error.strerror}); {hint}", file=sys.stderr)
                sys.exit(USAGE_ERROR)
            except Stopped as stopped:
                sys.exit(128 + stopped.signum)  # what a shell says of a process that the signal ended
            except RuntimeError as error:
                if not str(error).startswith("Unknown plugin class"):
                    raise
                print(f"error: {error}: it needs more packages: pip install 'nelbo[sweep]'", file=sys.stderr)
                sys.exit(USAGE_ERROR)
            except ValueError as error:
                if begun or not str(error).startswith(HYDRA_REFUSES):
                    raise
                print(f"error: {told(error)}", file=sys.stderr)
                sys.exit(USAGE_ERROR)

        return entry

    return decorate


@contextlib.contextmanager
def disk_errors_told() -> Iterator[None]:
    """What a run writes beside its checkpoints, by whatever library, meets the same disk.

    Raises:
        NelboError: if that refuses.
    """
    try:
        yield
    except OSError as error:
        folder = Path(HydraConfig.get().runtime.output_dir)
        of_run = error.filename is None or folder in Path(error.filename).parents  # None: said by a write
        if error.errno not in DISK_ERRORS or not of_run:
            raise
        raise unwritable(folder, error) from error


def refuse_no_directory() -> None:
    """An empty name is the current directory, which is no run's.

    Raises:
        ConfigError: if that is what was given.
    """
    if not str(HydraConfig.get().run.dir):
        raise ConfigError("hydra.run.dir", "", "must be a directory, such as outputs/NAME")


def refuse_half_a_sweep() -> None:
    """What is to be swept means nothing to a single run.

    Raises:
        ConfigError: if a sweep was chosen without `-m`.
    """
    chosen = HydraConfig.get().runtime.choices.get("sweep", "none")
    if chosen != "none":
        raise ConfigError("sweep", chosen, f"is for many runs, which needs -m: python train.py -m sweep={chosen} ...")


def refuse_scattered_processes() -> None:
    """Processes that torchrun or srun started name their directories by their own clocks.

    Raises:
        ConfigError: if there are several and no directory was given.
    """
    given = any(override.startswith("hydra.run.dir=") for override in HydraConfig.get().overrides.hydra)
    given |= any(word.startswith("resume=") and word != "resume=auto" for word in sys.argv[1:])
    if world_size_from_outside() > 1 and not given:
        place = HydraConfig.get().run.dir
        hint = "every process must write to the same directory; give one: hydra.run.dir=outputs/NAME"
        raise NelboError(f"hydra.run.dir: {hint} (this process would have taken {place})")


def main_options() -> dict[str, Any]:
    """Those, and what a config may have Hydra itself make: 1.4 asks for a list, 1.3 has none."""
    options: dict[str, Any] = dict(hydra_options())
    return options if "version_base" in options else {"execution_whitelist": HYDRA_MAY_MAKE}

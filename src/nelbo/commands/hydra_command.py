"""A command whose config Hydra composes: `hydra.main`, with every error of the user's as one line and status 2."""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from nelbo.commands.help import print_help
from nelbo.commands.refusals import (
    disk_errors_explained,
    refuse_empty_directory,
    refuse_scattered_processes,
    refuse_sweep_without_multirun,
)
from nelbo.commands.resolvers import register_resolvers
from nelbo.composing.command import COMMANDS, Command
from nelbo.composing.compat import main_options
from nelbo.composing.places import SHIPPED
from nelbo.errors import USAGE_ERROR, NelboError, Stopped
from nelbo.files import DISK_ERRORS
from nelbo.messages.arguments import check_arguments
from nelbo.messages.explain import explain
from nelbo.messages.targets import UNKNOWN_PLUGIN, of_a_plugin
from nelbo.messages.unused import refuse_missing_keys, refuse_unused_keys
from nelbo.numerics.threads import limit_spinning
from nelbo.running.directory import how_to_write
from nelbo.running.first_command import hint_for, with_first_arguments
from nelbo.sweeps.job import run_cell
from nelbo.terminal.programs import program
from nelbo.terminal.streams import tolerate_closed_pipes

log = logging.getLogger(__name__)

HYDRA_MAY_MAKE = (
    "nelbo.sweeps.own_targets.AllowTargets",
    "nelbo.sweeps.callback.DirectoryCallback",
    "nelbo.sweeps.callback.ReportCallback",
    "logging.*",
)
"""What a config may have Hydra itself instantiate: the callbacks and the handlers of logging."""

HYDRA_REFUSES = ("Config group override must be", "Unable to configure handler", "invalid literal for int()")
"""How the ValueErrors begin with which Hydra ends before a run has begun."""

Task = Callable[[DictConfig], Any]


def hydra_command(primary: str, task: Task, config_path: str | Path = SHIPPED) -> Callable[[], None]:
    """Return a function that reads the command line, composes the config with Hydra and runs a task on it.

    A function that is defined in a script is started again from that script, where a run needs more processes; any
    other from its module.

    Args:
        primary: the name of the primary config: `config` trains, and can sweep; others read finished runs.
        task: called with the composed config.
        config_path: the folder of the configs.
    """
    return _HydraCommand(primary, task, Path(config_path)).start


def quoted_nan(argument: str) -> str:
    """Return an argument of the group `debug` with its option `nan` in quotes; Hydra would read it as a number.

    Example:
        >>> quoted_nan("debug=[overfit,nan]")
        "debug=[overfit,'nan']"
    """
    return re.sub(r"(?<!')\bnan\b", "'nan'", argument) if argument.startswith("debug=") else argument


class _HydraCommand:
    """The state of a command from its start to its end."""

    def __init__(self, primary: str, task: Task, config_path: Path) -> None:
        self.task, self.trains, self.begun = task, primary == "config", False
        file = os.path.abspath(task.__code__.co_filename)  # in a worker, sys.argv is the worker's
        is_script = task.__module__ == "__main__"
        self.python_arguments = [file] if is_script else ["-m", task.__module__]
        started = f"python {os.path.relpath(file)}" if is_script else program(COMMANDS[primary])
        self.command = Command(started, config_path, primary)

    def explain(self, error: Exception) -> str:
        """Return an error as one line."""
        return explain(error, self.command)

    def checked(self, config: DictConfig) -> Any:
        """Run the task, once nothing in the config is left unread."""
        refuse_unused_keys(config, self.command)
        with disk_errors_explained():
            return self.task(config)

    def run(self, config: DictConfig) -> Any:
        """Run the task for a single run or for a job of a sweep; Hydra calls it."""
        self.begun = True
        register_resolvers()  # a worker may not have come through `start`
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return run_cell(self.checked, config, self.python_arguments, self.explain)
        try:
            if self.trains:
                refuse_empty_directory()
                refuse_sweep_without_multirun()
                refuse_scattered_processes()
            else:
                refuse_missing_keys(config, self.command)
            return self.checked(config)
        except (NelboError, OmegaConfBaseException) as error:
            log.error("error: %s", self.explain(error))
            sys.exit(USAGE_ERROR)

    def start(self) -> None:
        """Read the command line and run; what the user can put right is printed as one line, with exit status 2."""
        tolerate_closed_pipes()
        limit_spinning()
        if {"--help", "-h"} & set(sys.argv[1:]):
            print_help(self.command)
            return
        register_resolvers()
        logging.captureWarnings(True)
        # Where a line cannot be logged, on a full disk or a closed terminal, no traceback goes to stderr: whatever the
        # run needs to write reports that itself.
        logging.raiseExceptions = False
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions reach us instead of Hydra's own printer
        sys.argv[1:] = typed = [quoted_nan(argument) for argument in sys.argv[1:]]
        try:
            self._compose_and_run(typed)
        except Stopped as stopped:
            sys.exit(128 + stopped.signum)  # as a shell reports a process that a signal ended
        except Exception as error:
            message = self._message(error, typed)
            if message is None:
                raise
            print(f"error: {message}", file=sys.stderr)
            sys.exit(USAGE_ERROR)

    def _compose_and_run(self, typed: list[str]) -> None:
        if not self.trains and {"-m", "--multirun"} & set(typed):
            raise NelboError("-m: is for training; several runs are a list: run=[a,b]")
        check_arguments(typed, self.command)
        if self.trains:
            sys.argv[1:] = with_first_arguments(typed)

        @functools.wraps(self.task)  # Hydra asks a function, not a method, for the module that it is of
        def run(config: DictConfig) -> Any:
            return self.run(config)

        folder, primary = str(self.command.folder.resolve()), self.command.primary
        hydra.main(config_path=folder, config_name=primary, **main_options(HYDRA_MAY_MAKE))(run)()

    def _message(self, error: Exception, typed: list[str]) -> str | None:
        """Return the line for what the user can put right; None for any other error."""
        if isinstance(error, NelboError | HydraException | OmegaConfBaseException):
            message = self.explain(error)
            return f"{message}{hint_for(message, typed, sys.argv[1:])}"
        if isinstance(error, OSError) and not (self.begun and error.errno not in DISK_ERRORS):
            place = error.filename or "the directory of the run"  # which Hydra makes
            hint = f"{how_to_write(error)}: hydra.run.dir=..., or hydra.sweep.dir=... with -m"
            return f"{place}: cannot be written ({error.strerror}); {hint}"
        if isinstance(error, RuntimeError) and str(error).startswith(UNKNOWN_PLUGIN):
            return of_a_plugin(str(error))
        if isinstance(error, ValueError) and not self.begun and str(error).startswith(HYDRA_REFUSES):
            return self.explain(error)
        return None

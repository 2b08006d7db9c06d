"""From a command line to a run: Hydra's decorator, with its errors as one line and exit status 2."""

from __future__ import annotations

import contextlib
import difflib
import functools
import logging
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
import omegaconf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from nelbo.as_it_was import with_first_words
from nelbo.directory import run_directory, unwritable
from nelbo.errors import ConfigError, NelboError, Stopped
from nelbo.files import DISK_ERRORS
from nelbo.streams import outlive_readers
from nelbo.sweeps.job import plain_config, run_cell, world_size_from_outside
from nelbo.sweeps.names import directory_name
from nelbo.sweeps.own_targets import message_of_hydra
from nelbo.trainer_keys import refusal

log = logging.getLogger(__name__)
USAGE_ERROR = 2
HYDRA_MAY_MAKE = (
    "nelbo.sweeps.own_targets.AllowTargets",
    "nelbo.sweeps.callback.DirectoryCallback",
    "nelbo.sweeps.callback.ReportCallback",
    "logging.*",
)
TYPED_KEYS = (
    "model.latent_dim",
    "objective.beta",
    "objective.num_samples",
    "data.batch_size",
    "data.validation_size",
    "optimizer.lr",
    "trainer.max_epochs",
    "seed",
)
"""The keys that people type: in `--help`, in suggestions and in TensorBoard's hparams tab."""

HYDRA_REFUSES = ("Config group override must be", "Unable to configure handler")
"""How the ValueErrors begin with which Hydra ends before a run has begun."""

Task = Callable[[DictConfig], Any]


def command(config_path: str, config_name: str, *, trains: bool = True) -> Callable[[Task], Callable[[], None]]:
    """`hydra.main` for a script; what the user can mend ends in one line on stderr and exit status 2.

    Args:
        config_path: of the configs, from the script's folder.
        config_name: of the primary one.
        trains: whether it makes runs, and can make many of them; a script that reads them sweeps nothing.
    """

    def decorate(task: Task) -> Callable[[], None]:
        script = os.path.abspath(task.__code__.co_filename)  # in a worker sys.argv is the worker's
        told = functools.partial(explain, script=os.path.relpath(script))
        begun = False

        @functools.wraps(task)
        def careful(config: DictConfig) -> Any:
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
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions reach us instead of Hydra's own printer
            try:
                if not trains and {"-m", "--multirun"} & set(sys.argv[1:]):
                    raise NelboError("-m: is for training; several runs are a list: run=[a,b]")
                if trains:
                    sys.argv[1:] = with_first_words(sys.argv[1:])
                main()
            except (NelboError, HydraException, OmegaConfBaseException) as error:
                print(f"error: {told(error)}", file=sys.stderr)
                sys.exit(USAGE_ERROR)
            except OSError as error:
                if begun and error.errno not in DISK_ERRORS:
                    raise
                place = error.filename or "the directory of the run"  # which Hydra makes
                mend = "make room, or give another: hydra.run.dir=..., or hydra.sweep.dir=... with -m"
                print(f"error: {place}: cannot be written ({error.strerror}); {mend}", file=sys.stderr)
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
        mend = "every process must write to the same directory; give one: hydra.run.dir=outputs/NAME"
        raise NelboError(f"hydra.run.dir: {mend} (this process would have taken {place})")


def hydra_options() -> dict[str, str]:
    """Hydra 1.3 asks for a version_base and 1.4 warns about one: this is the one place that decides."""
    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


def main_options() -> dict[str, Any]:
    """Those, and what a config may have Hydra itself make: 1.4 asks for a list, 1.3 has none."""
    options: dict[str, Any] = dict(hydra_options())
    return options if "version_base" in options else {"execution_whitelist": HYDRA_MAY_MAKE}


def register_resolvers() -> None:
    """What the configs need to name run directories, and to cap one number by another."""
    # OmegaConf 2.4 renamed it.
    old = omegaconf.__version__.startswith("2.3.")
    register = OmegaConf.register_new_resolver if old else OmegaConf.register_resolver
    # Runs that start in the same second must not share a directory.
    register("token", lambda: secrets.token_hex(3), use_cache=True, replace=True)
    register("directory_name", directory_name, replace=True)
    register("at_most", _at_most, replace=True)
    register("run_directory", _run_directory, replace=True)


def _run_directory(outputs: str, resume: str | None, fresh: str, *, _root_: DictConfig) -> str:
    """What the config needs to go on in the directory of a run."""
    return str(run_directory(Path(outputs), resume, fresh, lambda: plain_config(_root_)))


def _at_most(most: int, limit: object) -> object:
    """What a measure that is slow by itself takes of a limit on all measures; what is no number it refuses itself."""
    if limit is None:
        return most
    return min(most, limit) if isinstance(limit, int) and not isinstance(limit, bool) else limit


def explain(error: Exception, script: str = "train.py") -> str:
    """Any error of ours, Hydra's or OmegaConf's as one line that names the key, the value and the mend."""
    origin: BaseException | None = error
    while origin and not isinstance(origin, NelboError):  # a resolver's is wrapped in OmegaConf's
        origin = origin.__cause__ or origin.__context__
    if origin:
        return " ".join(str(origin).splitlines())  # a value may hold line breaks
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return _no_option(group, option, option, error.options)
    text = str(error)
    if message := message_of_hydra(f"{text}\n{error.__cause__ or ''}"):
        return message
    if match := re.search(r"Could not load '([^']+)/([^']+)'.*path=file://(\S+)", text, re.DOTALL):  # one of a list
        group, option, home = match.groups()
        options = sorted(file.stem for file in Path(home, group).glob("*.yaml"))
        return _no_option(group, f"[{option}]", option, options)
    cause = str(error.__cause__ or "")
    if text.startswith("Config group override must be"):
        typed = next(
            (argument for argument in sys.argv[1:] if re.fullmatch(r"[^.]*=(null|[\d.]+|true|false)", argument)), ""
        )
        return f"{typed or 'a group'}: a group needs the name of one of its options; python {script} --help lists them"
    if match := re.match(r"Could not override '([^']+)'", text):
        key = match[1]
        if reason := refusal(key):
            return f"{_typed(key)}: {reason}"
        suggestion = re.search(r"Did you mean:? '([^']+)'", text + cause)
        meant = _meant(key, suggestion[1] if suggestion else "")
        if f"full_key: {key}." in cause:  # Hydra merges mappings, and the one that stands there has other keys
            return f"{_typed(key)}: there is another schedule already; replace it with ~{key} '+{_typed(key)}'"
        question = f"did you mean {meant}? " if meant else ""
        return f"{_typed(key)}: there is no such key; {question}python {script} --cfg job lists them"
    if match := re.match(r"Could not append to config. An item is already at '([^']+)'", text):
        return f"+{_typed(match[1]).lstrip('+')}: the key is there already; leave out the +"
    if match := re.match(r"Ambiguous value for argument '([^']+)'", text):
        if Path(script).name != "train.py":
            return f"{match[1]}: several values are a list: key=[a,b]"
        return f"{match[1]}: several values are a sweep, which needs -m (python train.py -m ...); a list is key=[a,b]"
    if match := re.match(r"Error when parsing index: \d+, string: (.*) out of \[|Error parsing override '(.*)'", text):
        return f"{match[1] or match[2]}: not an override; write key=value, and quote values with special characters"
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}: has no default; type {error.full_key}=..."
    if isinstance(error, OmegaConfBaseException) and getattr(error, "full_key", None):
        return f"{error.full_key}: {text.splitlines()[0]}"
    return "; ".join(line.strip() for line in f"{text}\n{cause}".splitlines() if line.strip())


def _no_option(group: str, value: str, option: str, options: Sequence[str]) -> str:
    near = difflib.get_close_matches(option, options, 1, 0.75)
    question = f"did you mean {near[0]}? " if near else ""
    return f"{group}={value}: there is no such option; {question}choose from {', '.join(options)}"


def _meant(key: str, suggestion: str) -> str:
    """The key that was meant, if one can be guessed; Hydra 1.4 suggests a part of one, where a part is misspelt."""
    *parents, last = key.split(".")
    if not parents and (whole := [known for known in TYPED_KEYS if known.endswith(f".{last}")]):
        return " or ".join(whole)  # the key without its group is a common slip
    if suggestion:
        wrong = difflib.get_close_matches(suggestion, key.split("."), 1)
        return ".".join(suggestion if [part] == wrong else part for part in key.split("."))
    near = [known for known in TYPED_KEYS if difflib.get_close_matches(last, [known.split(".")[-1]])]
    return " or ".join(known for known in near if known != key)


def _typed(key: str) -> str:
    """The argument that set `key`, as it was typed."""
    return next((argument for argument in sys.argv[1:] if argument.lstrip("+~").startswith(f"{key}=")), key)

"""A job of a sweep, whatever launched it: its directory always tells how it went, and no job takes others with it."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nelbo.config.identity import identity
from nelbo.directories.names import METRICS
from nelbo.directories.owner import DirectoryInUse
from nelbo.errors import NelboError, Pruned, Stopped, first_line
from nelbo.files import read_json, write_json
from nelbo.running.scores import headline
from nelbo.sweeps import compat
from nelbo.sweeps.cells.command import plain_command
from nelbo.sweeps.cells.record import RECORD, SweepError, cell_lock, update_record
from nelbo.sweeps.machine import visible_gpus

log = logging.getLogger(__name__)

PINNED = "NELBO_PINNED_TO_GPU"

Task = Callable[[DictConfig], float]
Explain = Callable[[Exception], str]


def plain_config(config: DictConfig) -> dict[str, Any]:
    """The config as plain containers; unresolved if it cannot be resolved, which is for the run itself to say."""
    names = [name for name in config if name != "hydra"]
    try:
        return {str(name): _plain(config[name]) for name in names}
    except OmegaConfBaseException:
        unresolved: Any = OmegaConf.to_container(config, resolve=False)
        return {str(name): unresolved[name] for name in names}


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def run_cell(task: Task, config: DictConfig, start: Sequence[str], explain: Explain) -> float:
    """Run a job, and keep `cell.json` true throughout.

    Args:
        task: what to run.
        config: the job's config, without `hydra`.
        start: what Python is given to start a job that needs several processes: a script, or `-m` and a module.
        explain: an error as one line.

    Where torchrun or srun has started several processes for the job, all of them call this, and the first one locks and
    records.

    Raises:
        SweepError: if the job exits, or another process is running it.
        Exception: whatever the task raises, once it is in the job's log.
    """
    if rank_from_outside():
        return run_beside_the_first(task, config, explain)
    folder = Path(HydraConfig.get().runtime.output_dir)
    overrides = list(HydraConfig.get().overrides.task)
    choices = {key: value for key, value in HydraConfig.get().runtime.choices.items() if not key.startswith("hydra/")}
    plain = plain_config(config)
    pin_worker_to_gpu()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(cell_lock(folder))
        except DirectoryInUse as error:
            raise SweepError(f"{folder}: another process is running this cell ({error.owner})") from error
        started = {"identity": identity(plain), "overrides": overrides, "choices": choices, "config": plain}
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        whereabouts = {"host": socket.gethostname(), "pid": os.getpid(), "gpu": gpu, "started": time.time()}
        write_json(folder / RECORD, {**started, **whereabouts, "state": "running"})
        try:
            if needs_processes(plain.get("trainer", {})):
                value = run_in_processes(plain_command(start, HydraConfig.get(), folder), folder)
            else:
                value = task(config)
        except BaseException as error:
            state, told = how_it_ended(error, explain)
            update_record(folder, state=state, error=told, ended=time.time())
            if state == "failed":
                log.error("error: %s", told, exc_info=None if isinstance(error, NelboError | SystemExit) else error)
            if isinstance(error, Pruned):
                log.info("%s", told)
                return math.nan  # no error; a search reads `cell.json`
            if isinstance(error, SystemExit):
                if state == "stopped":
                    raise
                raise SweepError(told) from error
            raise
        update_record(folder, state="done", ended=time.time())
        return value


def run_beside_the_first(task: Task, config: DictConfig, explain: Explain) -> float:
    """Run a job in a process that is not its first: it neither waits for the cell's lock nor writes its record.

    Raises:
        SystemExit: with status 0 if it was asked to stop: the first process may be asking Slurm to start the job again.
        Exception: whatever the task raises, once it is in the job's log.
    """
    try:
        return task(config)
    except Pruned:
        return math.nan
    except Stopped:
        sys.exit(0)
    except Exception as error:
        reason = how_it_ended(error, explain)[1]
        log.error("error in process %d: %s", rank_from_outside(), reason, exc_info=not isinstance(error, NelboError))
        raise


def pin_worker_to_gpu() -> None:
    """Joblib hands out no GPUs and uses its workers again: each takes one by its own number, before CUDA is used."""
    worker = compat.loky_worker()
    if worker is None or PINNED in os.environ:
        return
    if gpus := visible_gpus():
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[(worker - 1) % len(gpus)]
        os.environ[PINNED] = "1"


def how_it_ended(error: BaseException, explain: Explain) -> tuple[str, str]:
    """A state and a line for what ended a job before its end."""
    if isinstance(error, Pruned):
        return "pruned", str(error)
    # An exit on the way of a signal: submitit's, once it has requeued its job.
    if isinstance(error, Stopped | KeyboardInterrupt) or isinstance(error.__context__, Stopped):
        return "stopped", "stopped by a signal"
    if isinstance(error, SystemExit):
        return "failed", f"exited with status {error.code}"
    if isinstance(error, NelboError | OmegaConfBaseException):
        return "failed", explain(error)
    if isinstance(error, Exception):
        return "failed", f"{type(error).__name__}: {first_line(error)}"
    return "failed", type(error).__name__


def needs_processes(trainer: Mapping[str, Any]) -> bool:
    """Whether a job trains in several processes that nobody has started yet."""
    one = str(trainer.get("devices", 1)) == "1" and str(trainer.get("num_nodes", 1)) == "1"
    if one and trainer.get("strategy", "auto") == "auto":
        return False
    return world_size_from_outside() == 1


def world_size_from_outside() -> int:
    """How many processes torchrun or srun has started for this run; 1 if neither did."""
    name = "WORLD_SIZE" if "TORCHELASTIC_RUN_ID" in os.environ else "SLURM_STEP_NUM_TASKS"
    return int(os.environ.get(name, "1"))


def rank_from_outside() -> int:
    """Which of the processes that torchrun or srun has started for this run this is; 0 if neither did."""
    if world_size_from_outside() == 1:
        return 0
    return int(os.environ["RANK" if "TORCHELASTIC_RUN_ID" in os.environ else "SLURM_PROCID"])


def run_in_processes(command: Sequence[str], folder: Path) -> float:
    """Run a job as a command of its own, for Lightning starts the other ranks by repeating the command line.

    Raises:
        SweepError: with its last line, if it fails.
    """
    last = ""
    # Where Hydra was started, for a job may have been sent to its own directory.
    process = subprocess.Popen(command, cwd=HydraConfig.get().runtime.cwd, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            sys.stderr.write(line)
            last = line.strip() or last
        status = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if status:
        raise SweepError(last.removeprefix("error: ") or f"exited with status {status}")
    return headline(read_json(folder / METRICS))

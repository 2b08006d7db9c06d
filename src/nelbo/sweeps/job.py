"""A job of a sweep with any launcher: it records in its directory how it went, and its failure affects no other job."""

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
"""The environment variable that marks a worker process which uses one GPU already."""

Task = Callable[[DictConfig], float]
Explain = Callable[[Exception], str]


def plain_config(config: DictConfig) -> dict[str, Any]:
    """Return a config as plain containers, without `hydra`.

    It is unresolved if it cannot be resolved: the run then reports the error.
    """
    names = [name for name in config if name != "hydra"]
    try:
        return {str(name): _plain(config[name]) for name in names}
    except OmegaConfBaseException:
        unresolved: Any = OmegaConf.to_container(config, resolve=False)
        return {str(name): unresolved[name] for name in names}


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def run_cell(task: Task, config: DictConfig, start: Sequence[str], explain: Explain) -> float:
    """Run a job, and keep its `cell.json` up to date.

    If torchrun or srun has started several processes for the job, each of them calls this function; only the first one
    locks the cell and writes its record.

    Args:
        task: the function to run.
        config: the job's config, without `hydra`.
        start: the arguments of Python that start a job which needs several processes: a script, or `-m` and a module.
        explain: returns an error as one line.

    Returns:
        The result of the task; nan if the job was pruned.

    Raises:
        SweepError: if the job exits, or another process is running it.
        Exception: any exception of the task, after it was written to the job's log.
    """
    if external_rank():
        return run_other_rank(task, config, explain)
    folder = Path(HydraConfig.get().runtime.output_dir)
    plain = plain_config(config)
    pin_worker_to_gpu()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(cell_lock(folder))
        except DirectoryInUse as error:
            raise SweepError(f"{folder}: another process is running this cell ({error.owner})") from error
        write_json(folder / RECORD, first_record(plain))
        try:
            if needs_processes(plain.get("trainer", {})):
                value = run_in_processes(plain_command(start, HydraConfig.get(), folder), folder)
            else:
                value = task(config)
        except BaseException as error:
            state, reason = ending(error, explain)
            update_record(folder, state=state, error=reason, ended=time.time())
            if state == "failed":
                log.error("error: %s", reason, exc_info=None if isinstance(error, NelboError | SystemExit) else error)
            if isinstance(error, Pruned):
                log.info("%s", reason)
                return math.nan  # a search reads the state from `cell.json`
            if isinstance(error, SystemExit) and state != "stopped":
                raise SweepError(reason) from error
            raise
        update_record(folder, state="done", ended=time.time())
        return value


def first_record(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `cell.json` for a job that starts now in this process.

    Args:
        plain: the job's config as plain containers.
    """
    hydra = HydraConfig.get()
    return {
        "identity": identity(plain),
        "overrides": list(hydra.overrides.task),
        "choices": {key: value for key, value in hydra.runtime.choices.items() if not key.startswith("hydra/")},
        "config": plain,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "started": time.time(),
        "state": "running",
    }


def run_other_rank(task: Task, config: DictConfig, explain: Explain) -> float:
    """Run a job in a process that is not its first one: without the cell's lock and without a record.

    Raises:
        SystemExit: with status 0 if the process received a signal to stop. The first process may be asking Slurm to
            requeue the job, and another status would end it.
        Exception: any exception of the task, after it was written to the job's log.
    """
    try:
        return task(config)
    except Pruned:
        return math.nan
    except Stopped:
        sys.exit(0)
    except Exception as error:
        _, reason = ending(error, explain)
        log.error("error in process %d: %s", external_rank(), reason, exc_info=not isinstance(error, NelboError))
        raise


def pin_worker_to_gpu() -> None:
    """Let this process use one GPU only, chosen by its number, if it is a worker process of joblib.

    Joblib does not assign GPUs and uses its workers for several jobs. The GPU is set before the first job uses CUDA.
    """
    worker = compat.loky_worker()
    if worker is None or PINNED in os.environ:
        return
    if gpus := visible_gpus():
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[(worker - 1) % len(gpus)]
        os.environ[PINNED] = "1"


def ending(error: BaseException, explain: Explain) -> tuple[str, str]:
    """Return the state of a job that ended with an exception, and the reason in one line."""
    if isinstance(error, Pruned):
        return "pruned", str(error)
    # An exit while a signal is handled is that of submitit, which has requeued the job.
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
    """Return whether a job trains in several processes that have not been started yet.

    Args:
        trainer: the config `trainer`.
    """
    one = str(trainer.get("devices", 1)) == "1" and str(trainer.get("num_nodes", 1)) == "1"
    if one and trainer.get("strategy", "auto") == "auto":
        return False
    return external_world_size() == 1


def external_world_size() -> int:
    """Return the number of processes that torchrun or srun has started for this run; 1 if neither has."""
    name = "WORLD_SIZE" if "TORCHELASTIC_RUN_ID" in os.environ else "SLURM_STEP_NUM_TASKS"
    return int(os.environ.get(name, "1"))


def external_rank() -> int:
    """Return the rank of this process among those that torchrun or srun has started for this run; 0 if neither has."""
    if external_world_size() == 1:
        return 0
    return int(os.environ["RANK" if "TORCHELASTIC_RUN_ID" in os.environ else "SLURM_PROCID"])


def run_in_processes(command: Sequence[str], folder: Path) -> float:
    """Run a job as a command of its own, because Lightning starts the other ranks by repeating the command line.

    Args:
        command: the command.
        folder: the directory of the run.

    Returns:
        The headline score in `metrics.json`.

    Raises:
        SweepError: with the last line of its error output, if it fails.
    """
    last = ""
    # In the directory where Hydra was started; the job itself may run in another one (hydra.job.chdir).
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

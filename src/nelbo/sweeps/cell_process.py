"""The process of one cell on this machine: forked, run in a session of its own, collected or stopped."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from nelbo.errors import first_line
from nelbo.files import read_json
from nelbo.sweeps import compat
from nelbo.sweeps.cells.record import CONSOLE, RECORD, SweepError, update_record
from nelbo.sweeps.machine import FORK

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL when a cell is stopped."""


@dataclass
class RunningCell:
    """The process of a running cell.

    Args:
        position: the index of its job among those of the launch.
        process: the process.
        folder: the directory of the cell.
        slots: the slots that the cell occupies; each a GPU, or None for the CPU.
        pipe: receives whether the job failed, and its result or error.
    """

    position: int
    process: multiprocessing.process.BaseProcess
    folder: Path
    slots: list[str | None]
    pipe: Connection


def start(
    job: DictConfig,
    position: int,
    slots: list[str | None],
    threads: int,
    hydra_context: HydraContext,
    task_function: TaskFunction,
) -> RunningCell:
    """Start the process of a cell.

    Args:
        job: the composed config of the job.
        position: the index of the job among those of the launch.
        slots: the slots that the cell occupies.
        threads: the number of CPU threads of the cell.
        hydra_context: Hydra's config loader and callbacks.
        task_function: the function that runs the job.
    """
    folder = Path(str(job.hydra.sweep.dir), str(job.hydra.sweep.subdir)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    receiver, sender = FORK.Pipe(duplex=False)
    arguments = (job, folder, slots, threads, hydra_context, task_function, sender)
    process = FORK.Process(target=_run_in_child, args=arguments, name=folder.name)
    process.start()
    sender.close()
    return RunningCell(position, process, folder, slots, receiver)


def _run_in_child(
    job: DictConfig,
    folder: Path,
    slots: list[str | None],
    threads: int,
    hydra_context: HydraContext,
    task_function: TaskFunction,
    sender: Connection,
) -> None:
    """Run a job in the process that was forked for it, and send whether it failed, with its result or error."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_after_parent, daemon=True).start()
    with (folder / CONSOLE).open("ab", buffering=0) as console, open(os.devnull, "rb") as empty:
        os.dup2(empty.fileno(), 0)
        os.dup2(console.fileno(), 1)
        os.dup2(console.fileno(), 2)
    if gpus := [slot for slot in slots if slot is not None]:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(gpus))
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for processes that the job starts
    import torch

    torch.set_num_threads(threads)
    returned = run_job(
        hydra_context=hydra_context,
        task_function=task_function,
        config=job,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    failed = returned.status != JobStatus.COMPLETED
    value = compat.outcome(returned)
    sender.send((failed, first_line(value) if isinstance(value, Exception) else value))


def _end_after_parent() -> None:
    """Kill this cell with all processes that it started when the parent process has ended for any reason."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)


def collect(cell: RunningCell, overrides: list[str]) -> JobReturn:
    """Return the result of a cell whose process has ended, and kill what it left running.

    Args:
        cell: the cell.
        overrides: the overrides of its job.
    """
    signal_group(cell)  # before `join`, after which the system may use the process number again
    cell.process.join()
    returned = JobReturn(overrides=overrides)
    try:
        failed, value = cell.pipe.recv()
    except EOFError:
        failed, value = True, _exit_reason(cell.process.exitcode)
        if read_json(cell.folder / RECORD).get("state") in ("running", None):
            update_record(cell.folder, state="failed", error=value, ended=time.time())
    returned.status = JobStatus.FAILED if failed else JobStatus.COMPLETED
    returned.return_value = SweepError(value) if failed else value
    return returned


def signal_group(cell: RunningCell, signum: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a cell and all processes that it started."""
    assert cell.process.pid is not None
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(cell.process.pid, signum)


def _exit_reason(exitcode: int | None) -> str:
    """Return why a process ended, from its exit code as `multiprocessing` has it: negative for a signal."""
    if exitcode is not None and exitcode < 0:
        return f"killed by {signal.Signals(-exitcode).name}"
    return f"exited with status {exitcode}"


def stop(running: Sequence[RunningCell]) -> None:
    """Stop cells with SIGTERM, and after `GRACE` seconds with SIGKILL, and record that they were stopped."""
    for signum, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
        alive = [cell for cell in running if cell.process.is_alive()]
        for cell in alive:
            signal_group(cell, signum)
        deadline = time.monotonic() + patience
        for cell in alive:
            cell.process.join(max(0.0, deadline - time.monotonic()))
    for cell in running:
        signal_group(cell)  # another rank may have outlived the process that started it
        if read_json(cell.folder / RECORD).get("state") == "running":
            update_record(cell.folder, state="stopped", error="stopped by a signal", ended=time.time())

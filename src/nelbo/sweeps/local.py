"""Cells on one machine: each a process forked from one that has imported everything and computed nothing.

A cell owns a GPU, or a share of the CPU's threads; its own session, so that it can be stopped with all that it
started; and its own log. What it does to itself (raise, exit, be killed) it does to no other.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from nelbo.errors import at_most, first_line
from nelbo.files import read_json
from nelbo.sweeps import compat
from nelbo.sweeps.cells.record import RECORD, SweepError, update_record
from nelbo.sweeps.job import needs_processes
from nelbo.sweeps.machine import FORK, cores, visible_gpus

CONSOLE = "console.log"
TICK = 0.25
GRACE = 10.0
"""Seconds between asking a cell to stop and making it."""


@dataclass
class RunningCell:
    """A cell's process, where it writes, what it occupies, and the end of the pipe on which it tells how it ended."""

    position: int
    process: multiprocessing.process.BaseProcess
    folder: Path
    slots: list[str | None]
    pipe: Connection


class LocalPool:
    """Runs jobs, as many at once as there are slots.

    Args:
        n_jobs: slots; None for one per visible GPU, or per CPU core where there is none. More than GPUs share them.
        threads: CPU threads of each cell; None for an equal share of the cores.

    Raises:
        ConfigError: for a number below 1.
    """

    def __init__(self, n_jobs: int | None, threads: int | None) -> None:
        self.n_jobs = at_most("hydra.launcher.n_jobs", n_jobs)
        self.threads = at_most("hydra.launcher.threads", threads)

    def launch(
        self,
        config: DictConfig,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        job_overrides: Sequence[Sequence[str]],
        first: int,
        tick: Callable[[], None],
    ) -> list[JobReturn]:
        """Run all jobs; `tick` is called several times a second meanwhile.

        A failed job is a `JobReturn` that says so. Whatever interrupts this call stops the cells first.
        """
        import nelbo.running.run  # noqa: F401 # once, here, instead of seconds in every cell

        setup_globals()
        free = self.slots(str(OmegaConf.select(config, "trainer.accelerator", default="auto")))
        threads = self.threads or max(1, cores() // len(free))
        waiting = deque(enumerate(job_overrides))
        job: DictConfig | None = None  # the first of those that wait, composed while it does
        running: list[RunningCell] = []
        returns: list[JobReturn] = [JobReturn() for _ in job_overrides]
        try:
            while waiting or running:
                while waiting:
                    position, overrides = waiting[0]
                    if job is None:
                        job = job_config(hydra_context, config, overrides, first + position)
                    slots = take(free, processes_of(job), all_free=not running)
                    if not slots:
                        break
                    waiting.popleft()
                    running.append(start(job, position, slots, threads, hydra_context, task_function))
                    job = None
                ended = wait([cell.process.sentinel for cell in running], timeout=TICK)
                for cell in [cell for cell in running if cell.process.sentinel in ended]:
                    running.remove(cell)
                    free += cell.slots
                    returns[cell.position] = collect(cell, list(job_overrides[cell.position]))
                tick()
        finally:
            stop(running)
        return returns

    def slots(self, accelerator: str) -> list[str | None]:
        """The GPU of each slot; None for the CPU."""
        gpus = visible_gpus() if accelerator in ("auto", "gpu", "cuda") else []
        count = self.n_jobs or len(gpus) or cores()
        return [gpus[index % len(gpus)] if gpus else None for index in range(count)]


def job_config(hydra_context: HydraContext, config: DictConfig, overrides: Sequence[str], number: int) -> DictConfig:
    """The composed config of a job."""
    job = hydra_context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(job):
        job.hydra.job.id = str(number)
        job.hydra.job.num = number
    return job


def processes_of(job: DictConfig) -> int:
    """How many slots a job asks for."""
    devices = OmegaConf.select(job, "trainer.devices", default=1)
    trainer: Any = OmegaConf.to_container(job.trainer) if "trainer" in job else {}
    if not needs_processes(trainer):
        return 1
    return int(devices) if str(devices).isdigit() else len(devices) if OmegaConf.is_list(devices) else sys.maxsize


def take(free: list[str | None], wanted: int, *, all_free: bool = False) -> list[str | None]:
    """Slots for a job, on different GPUs, out of `free`; none if there are too few yet.

    Where `all_free` says that there are no others to wait for, a job that wants more than there are gets all of them.
    """
    chosen: list[str | None] = []
    for slot in free:
        if len(chosen) < wanted and (slot is None or slot not in chosen):
            chosen.append(slot)
    if len(chosen) < wanted:
        if not all_free:
            return []
        chosen = list(free)
    for slot in chosen:
        free.remove(slot)
    return chosen


def start(
    job: DictConfig,
    position: int,
    slots: list[str | None],
    threads: int,
    hydra_context: HydraContext,
    task_function: TaskFunction,
) -> RunningCell:
    """Fork a cell."""
    folder = Path(str(job.hydra.sweep.dir), str(job.hydra.sweep.subdir)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    receiver, sender = FORK.Pipe(duplex=False)
    arguments = (job, folder, slots, threads, hydra_context, task_function, sender)
    process = FORK.Process(target=_cell, args=arguments, name=folder.name)
    process.start()
    sender.close()
    return RunningCell(position, process, folder, slots, receiver)


def _cell(
    job: DictConfig,
    folder: Path,
    slots: list[str | None],
    threads: int,
    hydra_context: HydraContext,
    task_function: TaskFunction,
    sender: Connection,
) -> None:
    """The life of a cell's process."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with (folder / CONSOLE).open("ab", buffering=0) as console, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(console.fileno(), 1)
        os.dup2(console.fileno(), 2)
    if gpus := [slot for slot in slots if slot is not None]:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(gpus))
    os.environ["OMP_NUM_THREADS"] = str(threads)  # of processes that it starts
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


def _end_with_parent() -> None:
    """However the parent ends: a cell that nobody waits for must not go on."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)


def collect(cell: RunningCell, overrides: list[str]) -> JobReturn:
    """How a cell's process ended; what it left running is ended too."""
    end_group(cell)  # before it is waited for, while the number is its own
    cell.process.join()
    returned = JobReturn(overrides=overrides)
    try:
        failed, value = cell.pipe.recv()
    except EOFError:
        failed, value = True, _death(cell.process.exitcode)
        if read_json(cell.folder / RECORD).get("state") in ("running", None):
            update_record(cell.folder, state="failed", error=value, ended=time.time())
    returned.status = JobStatus.FAILED if failed else JobStatus.COMPLETED
    returned.return_value = SweepError(value) if failed else value
    return returned


def end_group(cell: RunningCell, signum: signal.Signals = signal.SIGKILL) -> None:
    """Signal a cell and all that it started."""
    assert cell.process.pid is not None
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(cell.process.pid, signum)


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"killed by {signal.Signals(-exitcode).name}"
    return f"exited with status {exitcode}"


def stop(running: Sequence[RunningCell]) -> None:
    """Ask cells to stop, then make them; say so in their records."""
    for signum, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
        alive = [cell for cell in running if cell.process.is_alive()]
        for cell in alive:
            end_group(cell, signum)
        deadline = time.monotonic() + patience
        for cell in alive:
            cell.process.join(max(0.0, deadline - time.monotonic()))
    for cell in running:
        end_group(cell)  # a rank may have outlived the process that started it
        if read_json(cell.folder / RECORD).get("state") == "running":
            update_record(cell.folder, state="stopped", error="stopped by a signal", ended=time.time())

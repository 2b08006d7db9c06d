"""The pool of processes on one machine that runs the cells of a sweep.

Each cell is a process forked from this one, which has imported everything and computed nothing. It has a GPU or a share
of the CPU's threads; a session of its own, so that it can be stopped together with all processes that it started; and a
log of its own. A cell that raises, exits or is killed does not affect the others.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from typing import Any

from hydra.core.utils import JobReturn, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from nelbo.errors import at_most
from nelbo.numerics.threads import cores
from nelbo.sweeps.cell_process import RunningCell, collect, start, stop
from nelbo.sweeps.job import needs_processes
from nelbo.sweeps.machine import visible_gpus

TICK = 0.25
"""Seconds between two calls of `tick` while cells run."""


class LocalPool:
    """A pool that runs as many jobs at once as it has slots.

    Args:
        n_jobs: the number of slots; None for one per visible GPU, or per CPU core if there is no GPU. If there are more
            slots than GPUs, several cells share a GPU.
        threads: the number of CPU threads of each cell; None for an equal share of the cores.
        compose: returns the config of a job with these overrides.

    Raises:
        ConfigError: if a number is below 1.
    """

    def __init__(self, n_jobs: int | None, threads: int | None, compose: Callable[[Sequence[str]], DictConfig]) -> None:
        self.compose = compose
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
        """Run jobs and wait for their end. An exception or a signal in this call stops the running cells first.

        Args:
            config: the composed config of the sweep.
            hydra_context: Hydra's config loader and callbacks.
            task_function: the function that runs a job.
            job_overrides: the overrides of each job.
            first: the number of the first job in its sweep.
            tick: a function to call several times a second meanwhile.

        Returns:
            A `JobReturn` for each job, in their order; that of a failed job has the status `FAILED`.
        """
        import nelbo.running.run  # noqa: F401 # imported once here, which would take seconds in each cell

        setup_globals()
        free = self.slots(str(OmegaConf.select(config, "trainer.accelerator", default="auto")))
        threads = self.threads or max(1, cores() // len(free))
        waiting = deque(enumerate(job_overrides))
        job: DictConfig | None = None  # the config of the first waiting job, once it is composed
        running: list[RunningCell] = []
        returns: list[JobReturn] = [JobReturn() for _ in job_overrides]
        try:
            while waiting or running:
                while waiting:
                    position, overrides = waiting[0]
                    if job is None:
                        job = numbered(self.compose(overrides), first + position)
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
        """Return the GPU of each slot; None for the CPU.

        Args:
            accelerator: `trainer.accelerator`.
        """
        gpus = visible_gpus() if accelerator in ("auto", "gpu", "cuda") else []
        count = self.n_jobs or len(gpus) or cores()
        return [gpus[index % len(gpus)] if gpus else None for index in range(count)]


def numbered(job: DictConfig, number: int) -> DictConfig:
    """Return the config of a job with its number in its sweep."""
    with open_dict(job):
        job.hydra.job.id = str(number)
        job.hydra.job.num = number
    return job


def processes_of(job: DictConfig) -> int:
    """Return the number of slots that a job requests: its devices if it trains in several processes, else 1."""
    devices = OmegaConf.select(job, "trainer.devices", default=1)
    trainer: Any = OmegaConf.to_container(job.trainer) if "trainer" in job else {}
    if not needs_processes(trainer):
        return 1
    return int(devices) if str(devices).isdigit() else len(devices) if OmegaConf.is_list(devices) else sys.maxsize


def take(free: list[str | None], wanted: int, *, all_free: bool = False) -> list[str | None]:
    """Remove slots on different GPUs for a job from `free`, and return them; none if there are not enough.

    Args:
        free: the free slots; each a GPU, or None for the CPU.
        wanted: the number of slots that the job requests.
        all_free: whether no cell is running. A job that requests more slots than exist then gets all of them.

    >>> free = ["0", "1", "0", "1"]
    >>> take(free, 2), free
    (['0', '1'], ['0', '1'])
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

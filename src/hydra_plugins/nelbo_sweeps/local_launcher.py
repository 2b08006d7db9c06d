"""The launcher of `hydra/launcher=local`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalLauncher(Launcher):
    """Runs each job on this machine in a process of its own, see `nelbo.sweeps.local`.

    Args:
        n_jobs: the number of jobs at once; None for one per GPU, or per CPU core if there is no GPU.
        threads: the number of CPU threads of each job; None for an equal share of the cores.
    """

    def __init__(self, n_jobs: int | None, threads: int | None) -> None:
        self.n_jobs, self.threads = n_jobs, threads
        self.tick: Callable[[], None] = lambda: None
        """A function that is called several times a second while jobs run; a sweep sets it."""
        self.compose: Callable[[Sequence[str]], DictConfig] | None = None
        """A function that returns the config of a job; a sweep sets it, to that of its plan."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store what Hydra gives every launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run jobs, and return a `JobReturn` for each, in their order."""
        from nelbo.sweeps.local import LocalPool

        def compose(overrides: Sequence[str]) -> DictConfig:
            return self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))

        pool = LocalPool(self.n_jobs, self.threads, self.compose or compose)
        return pool.launch(
            self.config, self.hydra_context, self.task_function, job_overrides, initial_job_idx, self.tick
        )

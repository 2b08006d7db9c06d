"""hydra/launcher=local."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalLauncher(Launcher):
    """Jobs on this machine, each a process of its own: `nelbo.sweeps.local`.

    Args:
        n_jobs: how many at once; None for one per GPU, or per CPU core.
        threads: CPU threads of each; None for an equal share.
    """

    def __init__(self, n_jobs: int | None, threads: int | None) -> None:
        self.n_jobs, self.threads = n_jobs, threads
        self.tick: Callable[[], None] = lambda: None
        """Called several times a second while jobs run."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what to run."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; one `JobReturn` each, in order."""
        from nelbo.sweeps.local import LocalPool

        pool = LocalPool(self.n_jobs, self.threads)
        return pool.launch(
            self.config, self.hydra_context, self.task_function, job_overrides, initial_job_idx, self.tick
        )

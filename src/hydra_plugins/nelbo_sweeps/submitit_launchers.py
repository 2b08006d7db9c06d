"""The launchers of `hydra/launcher=submitit_local` and `submitit_slurm`.

Hydra's own launchers for submitit raise at the first job that was killed and leave the others running; these wait for
the end of all jobs. The local one limits the number of jobs at once.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from nelbo.sweeps import compat

POLL_INTERVAL = 0.5
"""Seconds between two checks whether jobs have ended."""

CONSTRUCTOR_OPTIONS = ("max_num_timeout", "python")
"""Options that an executor of submitit takes when it is created; it takes the others later."""

OWN_OPTIONS = ("submitit_folder", "at_once")
"""Options of the launchers that are not options of an executor."""

if compat.HAS_SUBMITIT:

    class _Patient(compat.SubmititLauncher):
        """A launcher that waits for the end of all jobs, also if some fail."""

        ENGINE: str
        """The name of submitit's engine."""

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            """Run jobs, and return a `JobReturn` for each, in their order."""
            assert self.config is not None
            Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
            numbered = enumerate(job_overrides, start=initial_job_idx)
            calls = [self.job_arguments(overrides, number) for number, overrides in numbered]
            jobs: list[Any] = []
            try:
                self._submit(self._executor(), calls, jobs)
                while not all(job.done() for job in jobs):
                    time.sleep(POLL_INTERVAL)
            except BaseException:  # such as a signal to stop
                for job in jobs:
                    job.cancel(check=False)
                raise
            return [_job_return(job) for job in jobs]

        def __call__(self, *arguments: Any) -> JobReturn:
            """Run a job; submitit calls this in each task of the job.

            Raises:
                RuntimeError: if the job has several tasks and this one failed. Its exit status lets srun end the tasks
                    that would wait for it.
            """
            from nelbo.sweeps.job import external_world_size

            returned: JobReturn = super().__call__(*arguments)
            if returned.status == JobStatus.FAILED and external_world_size() > 1:
                raise RuntimeError("this task of the job failed; the reason is in its log and in cell.json")
            return returned

        def _executor(self) -> Any:
            """Return an executor of submitit with the options of the config.

            Options that only one engine has get the name of the engine as a prefix.
            """
            import submitit

            given = {key: value for key, value in self.params.items() if value is not None and key not in OWN_OPTIONS}
            shared = self.shared_options()
            named = {key if key in shared else f"{self.ENGINE}_{key}": value for key, value in given.items()}
            first = [key for key in (f"{self.ENGINE}_{key}" for key in CONSTRUCTOR_OPTIONS) if key in named]
            options = {key: named.pop(key) for key in first}
            executor = submitit.AutoExecutor(self.params["submitit_folder"], cluster=self.ENGINE, **options)
            executor.update_parameters(**named)
            return executor

        @abstractmethod
        def _submit(self, executor: Any, calls: Sequence[tuple[Any, ...]], jobs: list[Any]) -> None:
            """Submit jobs, and add each to `jobs` as soon as it is submitted.

            Args:
                executor: the executor.
                calls: the arguments of each job.
                jobs: receives the submitted jobs.
            """

    class PatientSlurmLauncher(_Patient):
        """Submits all jobs to Slurm as one job array."""

        ENGINE = "slurm"

        def _submit(self, executor: Any, calls: Sequence[tuple[Any, ...]], jobs: list[Any]) -> None:
            submitted = executor.map_array(self, *zip(*calls, strict=True))
            jobs += [job.task(0) for job in submitted]  # the first task of a job has its result

    class PatientLocalLauncher(_Patient):
        """Runs each job on this machine in a new interpreter, `at_once` of them at the same time."""

        ENGINE = "local"

        def _submit(self, executor: Any, calls: Sequence[tuple[Any, ...]], jobs: list[Any]) -> None:
            from nelbo.numerics.threads import cores

            limit = self.params["at_once"] or cores()
            for call in calls:
                while sum(not job.done() for job in jobs) >= limit:
                    time.sleep(POLL_INTERVAL)
                jobs.append(executor.submit(self, *call))


def _job_return(job: Any) -> JobReturn:
    """Return the result of a job of submitit that has ended, or its error."""
    error = job.exception()
    if error is None:
        returned: JobReturn = job.results()[0]
        return returned
    failed = JobReturn(status=JobStatus.FAILED)
    failed.return_value = error
    return failed

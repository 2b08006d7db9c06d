"""hydra/launcher=submitit_local and submitit_slurm: Hydra's own, but patient.

The stock ones raise at the first job that was killed and leave the others to themselves; these wait for all. The local
one starts as many as there is room for, instead of all at once.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from nelbo.sweeps import compat

SECONDS_BETWEEN_LOOKS = 0.5
STARTING = ("max_num_timeout", "python")
"""What an engine takes when it is made, and not later."""

OURS = ("submitit_folder", "at_once")

if compat.HAS_SUBMITIT:

    class _Patient(compat.SubmititLauncher):
        """Waits for every job, whatever becomes of it."""

        ENGINE: str

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            """Run the jobs; a `JobReturn` each, in order."""
            assert self.config is not None
            Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
            numbered = enumerate(job_overrides, start=initial_job_idx)
            calls = [self.job_arguments(overrides, number) for number, overrides in numbered]
            jobs: list[Any] = []
            try:
                self._submit(self._executor(), calls, jobs)
                while not all(job.done() for job in jobs):
                    time.sleep(SECONDS_BETWEEN_LOOKS)
            except BaseException:  # told to stop: so are they
                for job in jobs:
                    job.cancel(check=False)
                raise
            return [_returned(job) for job in jobs]

        def __call__(self, *arguments: Any) -> JobReturn:
            """Run a job, where it was sent: in each of its tasks.

            Raises:
                RuntimeError: if one of several tasks has failed: its exit status makes srun end those that wait for it.
            """
            from nelbo.sweeps.job import world_size_from_outside

            returned: JobReturn = super().__call__(*arguments)
            if returned.status == JobStatus.FAILED and world_size_from_outside() > 1:
                raise RuntimeError("this task of the job has failed; its log and cell.json say why")
            return returned

        def _executor(self) -> Any:
            """The engine, with the config's parameters; those that engines do not share get its name before theirs."""
            import submitit

            given = {key: value for key, value in self.params.items() if value is not None and key not in OURS}
            shared = self.shared_options()
            named = {key if key in shared else f"{self.ENGINE}_{key}": value for key, value in given.items()}
            first = {key: named.pop(key) for key in (f"{self.ENGINE}_{key}" for key in STARTING) if key in named}
            executor = submitit.AutoExecutor(self.params["submitit_folder"], cluster=self.ENGINE, **first)
            executor.update_parameters(**named)
            return executor

        @abstractmethod
        def _submit(self, executor: Any, calls: Sequence[tuple[Any, ...]], jobs: list[Any]) -> None:
            """Submit the calls, adding to `jobs` as they are."""

    class PatientSlurmLauncher(_Patient):
        """One array of jobs for Slurm."""

        ENGINE = "slurm"

        def _submit(self, executor: Any, calls: Sequence[tuple[Any, ...]], jobs: list[Any]) -> None:
            submitted = executor.map_array(self, *zip(*calls, strict=True))
            jobs += [job.task(0) for job in submitted]  # the first of a job's tasks says how it went

    class PatientLocalLauncher(_Patient):
        """Processes on this machine, `at_once` of them."""

        ENGINE = "local"

        def _submit(self, executor: Any, calls: Sequence[tuple[Any, ...]], jobs: list[Any]) -> None:
            from nelbo.sweeps.machine import cores

            room = self.params["at_once"] or cores()
            for call in calls:
                while sum(not job.done() for job in jobs) >= room:
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                jobs.append(executor.submit(self, *call))


def _returned(job: Any) -> JobReturn:
    """What a job of submitit came to."""
    error = job.exception()
    if error is None:
        returned: JobReturn = job.results()[0]
        return returned
    failed = JobReturn(status=JobStatus.FAILED)
    failed.return_value = error
    return failed

"""One run: its directory, its parts, training, testing, and its results."""

from __future__ import annotations

import contextlib
import logging
import signal
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from nelbo.directories import names
from nelbo.errors import ConfigError, Stopped
from nelbo.files import write_json
from nelbo.numerics.precision import float32
from nelbo.running import directory, first_command, resume
from nelbo.running.assemble import assemble
from nelbo.running.discard import discard
from nelbo.running.fit import begin_directory, fit
from nelbo.running.scores import headline, print_summary
from nelbo.running.settings import Chosen, resolve
from nelbo.running.summary import summarise
from nelbo.training.compat import process_rank
from nelbo.training.signals import Signals, requeue

log = logging.getLogger(__name__)


def run(config: DictConfig) -> float:
    """Train and test what `config` describes, in Hydra's run directory, or resume the run that is there.

    Returns:
        `val/nelbo` of the best checkpoint, or `test/nelbo` without a validation set; the reconstruction of a model that
        has no ELBO.

    Raises:
        NelboError: for anything that the user can put right.
        Stopped: when a signal asks, once a checkpoint is written.
    """
    plain = resolve(config)
    if plain["discard"] and plain["resume"]:
        hint = f"would remove the files of the run that resume={plain['resume']} continues; leave one of them out"
        raise ConfigError("discard", plain["discard"], hint)
    folder = Path(HydraConfig.get().runtime.output_dir)
    # The directory of a sweep's cell is named by its config, and a job that Slurm starts again resumes.
    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    asked = plain["resume"] or (names.AUTO if in_sweep or directory.is_requeued() else None)
    writes = process_rank() == 0
    if not writes:
        logging.getLogger("nelbo").setLevel(logging.ERROR)  # the process that writes logs the rest
    home = Path(HydraConfig.get().runtime.cwd)
    if asked not in (None, names.AUTO):
        if (home / asked).resolve() != folder.resolve():
            raise ConfigError("resume", plain["resume"], f"is not hydra.run.dir={folder}: leave that out")
        config = config.copy()
        first_command.restore(config, plain, folder)
        plain = resolve(config)
    lock = directory.locked(folder) if writes else contextlib.nullcontext()
    with lock, Signals() as signals, float32(plain["float32"]):
        complete = directory.finished(folder, plain)
        if complete and asked:
            log.info("this run is complete; a larger trainer.max_epochs or trainer.max_steps continues it")
            print_summary(complete, folder)
            return headline(complete)
        resume_point = resume.find_resume_point(folder, plain, asked, first_command.first_config)
        try:
            chosen = Chosen.by_hydra()
            parts = assemble(config, folder, resume_point, signals, chosen)
            if writes:
                begin_directory(parts, folder, resume_point, chosen.overrides)
            metrics = summarise(parts, fit(parts, folder, resume_point, signals))
        except Stopped as stopped:
            if writes:
                _log_stop(stopped, folder, in_sweep=in_sweep)
            raise
        if writes:
            if plain["discard"] and not in_sweep:  # a sweep reads the files of its cells
                discard(folder)
                log.info(
                    "trained %d steps, validated and tested: removed the run's files from %s", metrics["steps"], folder
                )
                return headline(metrics)
            write_json(folder / names.METRICS, metrics)  # last: its presence means that the run is complete
            print_summary(metrics, folder)
    return headline(metrics)


def _log_stop(stopped: Stopped, folder: Path, *, in_sweep: bool) -> None:
    """Log which signal stopped the run and how it is resumed; Slurm's own signal has Slurm start the job again."""
    hint = "the sweep's command resumes it" if in_sweep else resume.how_to_resume(folder)
    log.warning("stopped by %s; %s", signal.Signals(stopped.signum).name, hint)
    if stopped.signum == signal.SIGUSR1 and (job := directory.slurm_job()):
        requeue(job)

"""Training the parts of a run, and testing the best checkpoint."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import OmegaConf

from nelbo.checkpoints.io import AtomicCheckpointIO
from nelbo.checkpoints.record import read_checkpoint
from nelbo.directories.names import CONFIG, MARK, OVERRIDES
from nelbo.errors import NelboError, Stopped, first_line
from nelbo.running import directory, first_command
from nelbo.running.assemble import Parts
from nelbo.running.resume import as_argument
from nelbo.running.resume_point import ResumePoint, resume_point_of
from nelbo.training.compat import terminate_children
from nelbo.training.foreign import named_errors
from nelbo.training.loggers import closing, log_names
from nelbo.training.outcome import outcome
from nelbo.training.signals import Signals
from nelbo.training.trainer import checkpoint_bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """The results of training and testing.

    Args:
        best: values of the best checkpoint on the validation set, by the name of their metric.
        tested: values of the best checkpoint on the test set.
        ending: how long training was, why it ended, and which checkpoint was tested.
        counts: numbers of updates that were skipped or clipped, where they could be.
        seconds: of training.
        cpu_seconds: of this process in training; None where the run resumed from a checkpoint that lacks them.
        images_per_second: trained, by all processes.
    """

    best: Mapping[str, float]
    tested: Mapping[str, float]
    ending: Mapping[str, Any]
    counts: Mapping[str, int]
    seconds: float
    cpu_seconds: float | None
    images_per_second: float


def begin_directory(parts: Parts, folder: Path, resume_point: ResumePoint | None, overrides: Sequence[str]) -> None:
    """Write the run's config and command into its directory, and cut logs to their lengths at the checkpoint.

    Raises:
        ConfigError: if a file of another program is in the way.
        OSError: if the directory cannot be written.
    """
    texts = {
        CONFIG: OmegaConf.to_yaml(OmegaConf.create(dict(parts.plain))),
        OVERRIDES: OmegaConf.to_yaml(OmegaConf.create(first_command.arguments_to_record(overrides))),
        MARK: directory.mark(parts.identifying),
    }
    tables, boards = log_names(parts.trainer.loggers, folder, validated=parts.validated)
    lengths = resume_point.logs if resume_point else {}
    directory.begin(folder, lengths, checkpoint_bytes(parts.module), texts, tables, boards)
    log.info("training in %s", folder)


def fit(parts: Parts, folder: Path, resume_point: ResumePoint | None, signals: Signals) -> Fitted:
    """Train, and test the best checkpoint.

    Args:
        parts: of the run.
        folder: the run's directory.
        resume_point: the checkpoint from which training resumes, if it does.
        signals: those that stop the run.

    Raises:
        NelboError: if Lightning refuses a value of the config, or another process of the run ended.
        Stopped: when a signal asks, once a checkpoint is written.
    """
    trainer, module, checkpoints, throughput = parts.trainer, parts.module, parts.checkpoints, parts.throughput
    # The other processes may wait for one that has not started yet, or has ended.
    signals.before_exit = functools.partial(terminate_children, trainer)
    files = trainer.strategy.checkpoint_io
    assert isinstance(files, AtomicCheckpointIO)
    if resume_point:
        files.hold(resume_point.file, resume_point.take())
    with closing(trainer.loggers), _explained(parts, folder, signals):
        with named_errors(parts.plain["callbacks"]):
            trainer.fit(module, datamodule=parts.data, ckpt_path=resume_point.file if resume_point else None)
        # Read before testing, which restores the callbacks to their state when the best checkpoint was written.
        best_point = resume_point_of(checkpoints.best, read_checkpoint(checkpoints.best))
        files.hold(checkpoints.best, best_point.take())
        ending = outcome(trainer, checkpoints.ending, parts.length, best_point.position, best_point.step)
        times = throughput.seconds, throughput.cpu_seconds, throughput.rate
        best, counts = checkpoints.values, {name: int(count) for name, count in parts.guard.counts(trainer).items()}
        with named_errors(parts.plain["callbacks"]):
            (tested,) = trainer.test(module, datamodule=parts.data, ckpt_path=checkpoints.best, verbose=False)
    return Fitted(best, {key: float(value) for key, value in tested.items()}, ending, counts, *times)


@contextmanager
def _explained(parts: Parts, folder: Path, signals: Signals) -> Iterator[None]:
    """A context in which errors of training that the user can put right become one line."""
    try:
        yield
    except MisconfigurationException as error:
        raise NelboError(f"trainer: {first_line(error)}") from error
    except ValueError as error:
        if "val_check_interval" not in str(error):
            raise
        raise NelboError(f"trainer.val_check_interval: {first_line(error)}") from error
    except Stopped:
        signals.before_exit()
        raise
    except RuntimeError as error:
        if signals.received:  # other processes of the run ended first, and this one lost its connection
            raise Stopped(signals.received) from error
        lost = isinstance(error, torch.distributed.DistBackendError) or "gloo" in str(error)
        if parts.trainer.world_size == 1 or not lost:
            raise
        hint = f"{as_argument(folder)} resumes it"
        raise NelboError(f"a process of this run ended, and the others with it; {hint}") from error

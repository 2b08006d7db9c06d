"""The checkpoint from which a run in a directory resumes, and what may differ from how the run began."""

from __future__ import annotations

import logging
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nelbo.checkpoints.record import read_checkpoint
from nelbo.config.changes import (
    ABSENT,
    Changes,
    differences,
    in_the_shape_of,
    is_one_of,
    read_config,
    value_at,
    was_filled_in,
)
from nelbo.config.identity import ABSENT_MEANS, FREE_TO_CHANGE, MACHINE_FACTS, content
from nelbo.config.quoting import quoted
from nelbo.directories.names import AUTO, CHECKPOINTS, MARK, METRICS, WRITTEN
from nelbo.errors import CheckpointError, ConfigError, DamagedCheckpoint, as_hydra_takes
from nelbo.running.directory import refuse_files
from nelbo.running.resume_point import ResumePoint, resume_point_of
from nelbo.terminal.programs import own_program

log = logging.getLogger(__name__)


AT_AN_EPOCHS_END = (
    *("data", "trainer.devices", "trainer.num_nodes", "trainer.limit_train_batches", "trainer.overfit_batches"),
)
"""Keys that may change only between epochs: they decide the batches that a position within an epoch is counted in."""

OTHER_DATA = ("data.name", "data.protocol", "data.validation_size", "data.seed")
"""Keys of a checkpoint's provenance: where one of them differs, the data are others."""


def find_resume_point(
    folder: Path,
    plain: Mapping[str, Any],
    resume: str | None,
    first_config: Callable[[Path], Any] = lambda folder: None,
) -> ResumePoint | None:
    """Return the checkpoint from which a run resumes; None for a run that starts.

    Args:
        folder: the run's directory.
        plain: the run's config.
        resume: `auto`, a directory, or None for a run that expects an empty directory.
        first_config: returns what the command that began the run of a directory composes to now, or None; called where
            the config has new keys.

    Raises:
        ConfigError: if the directory holds a run that was not asked for, or the config differs.
        CheckpointError: if there is no checkpoint to resume from, or none that can be read.
    """
    files = sorted((folder / CHECKPOINTS).glob("*.ckpt"))
    if not files:
        if resume not in (None, AUTO):
            raise CheckpointError(f"resume={resume}: holds no checkpoint to resume from; give a run's directory")
        if resume is None or plain["resume"] is not None:  # a cell of a sweep may be trained again
            refuse_existing_results(folder)
        if plain["resume"] == AUTO:
            log.info("resume=auto: no checkpoint in %s yet, so a new run starts", folder)
        return None
    if resume is None:
        hint = "holds a run with checkpoints; resume=auto continues it, or give another directory"
        raise ConfigError("hydra.run.dir", folder, hint)
    changed = changes(folder, plain, first_config)
    point = newest(files)
    if changed.pop("init_from", None) and (
        not point.init_from or content(plain["init_from"]) != content(point.init_from)
    ):
        hint = f"is where a run starts; the one in {folder} resumes from its own weights: leave init_from as it was"
        raise ConfigError("init_from", plain["init_from"], hint)
    refuse_shorter(point, folder, plain["trainer"]["max_epochs"], plain["trainer"].get("max_steps"))
    if point.batches and (within := [key for key in changed if is_one_of(key, AT_AN_EPOCHS_END)]):
        hint = f"the run stopped within an epoch, after {point.batches} batches of it: {within[0]} must be as it was"
        raise ConfigError("resume_changes", plain["resume_changes"], hint)
    log.info("resuming from %s: step %d, %d epochs completed", point.file, point.step, point.epochs)
    for key, (before, now) in changed.items():
        log.warning("from step %d on with %s=%s, which was %s", point.step, key, now, before)
    if changed:
        entry = {"step": point.step, "changes": {key: list(values) for key, values in changed.items()}}
        point = replace(point, resumed=[*point.resumed, entry])
    return point


def refuse_shorter(point: ResumePoint, folder: Path, epochs: int | None, steps: int | None) -> None:
    """Refuse to resume a run that is longer already than it is to be, or whose tested checkpoint is lost.

    Args:
        point: the checkpoint.
        folder: the run's directory.
        epochs: the number of epochs that the run is to have; None or -1: no limit.
        steps: the number of optimiser steps; the same.

    Raises:
        ConfigError: if it has trained longer.
        CheckpointError: if training is complete, and the checkpoint to test is missing.
    """
    most, most_steps = (math.inf if limit in (None, -1) else limit for limit in (epochs, steps))
    if point.epochs > most:
        raise ConfigError("trainer.max_epochs", most, f"{folder} has trained {point.epochs} epochs already")
    if point.step > most_steps:
        raise ConfigError("trainer.max_steps", most_steps, f"{folder} has made {point.step} steps already")
    is_over = point.over or point.epochs == most or point.step == most_steps
    if is_over and not point.best and not point.in_validation:
        lost = folder / CHECKPOINTS / "best.ckpt"
        raise CheckpointError(
            f"{lost}: is missing, and training is complete; a copy of last.ckpt in its place would be tested"
        )


def epochs_added(point: ResumePoint, folder: Path, epochs: int) -> list[dict[str, Any]]:
    """Return the entry of the record for a number of epochs that the budget changed since the run began.

    Args:
        point: the checkpoint.
        folder: the run's directory.
        epochs: the number of epochs now.
    """
    before = read_config(folder)["trainer"].get("max_epochs")
    if before == epochs:
        return []
    log.warning("from step %d on with trainer.max_epochs=%d, which was %s", point.step, epochs, before)
    return [{"step": point.step, "changes": {"trainer.max_epochs": [before, epochs]}}]


def refuse_existing_results(folder: Path) -> None:
    """Refuse to overwrite results whose checkpoints are gone, and files of other programs.

    Raises:
        ConfigError: if there are any.
    """
    ours = (folder / MARK).exists()  # of a start that ended before its first checkpoint
    refuse_files(folder, [METRICS] if ours else WRITTEN)


def newest(files: Sequence[Path]) -> ResumePoint:
    """Return the checkpoint with the most steps among those that are whole, and log which were passed over.

    Steps decide and not file times: a clock may have been set back.

    Raises:
        CheckpointError: if none is whole, or one is but cannot be read now, or by this version.
    """
    whole: list[str] = []
    damaged = []
    point: ResumePoint | None = None
    for file in files:
        try:
            other = resume_point_of(file, read_checkpoint(file))
        except DamagedCheckpoint as error:
            damaged.append(str(error))
            continue
        whole.append(file.name)
        if point is None or _rank(other) > _rank(point):
            point = other  # only the content of this one is kept
    if point is None:
        raise CheckpointError(f"{'; '.join(damaged)}; delete them to start a new run")
    for message in damaged:
        log.warning("skipped in favour of %s (step %d): %s", point.file.name, point.step, message)
    return replace(point, best="best.ckpt" in whole)


def _rank(point: ResumePoint) -> tuple[int, bool]:
    """Return what is greatest for the newest checkpoint."""
    return point.step, point.file.name == "last.ckpt"


def changes(folder: Path, plain: Mapping[str, Any], first_config: Callable[[Path], Any]) -> Changes:
    """Return what differs from how the run began, where that is allowed: its length, and what `resume_changes` names.

    Raises:
        ConfigError: listing what else differs.
    """
    before = read_config(folder)
    now = in_the_shape_of(before, plain)
    differ = {
        key: pair
        for key, pair in differences(before, now).items()
        if not was_filled_in(before, plain, key, pair) and not is_one_of(key, (*MACHINE_FACTS, "budget"))
    }
    if new := [key for key in differ if value_at(before, key) is ABSENT]:
        # A key that the shipped config has gained since the run began is no change where it has the shipped value.
        first = first_config(folder)
        differ = {
            key: pair
            for key, pair in differ.items()
            if key not in new or pair[1] not in (value_at(first, key), ABSENT_MEANS.get(key, ABSENT))
        }
    allowed = (*FREE_TO_CHANGE, *plain["resume_changes"], "init_from")  # which `find_resume_point` checks
    refused = {key: pair for key, pair in differ.items() if not is_one_of(key, allowed)}
    if refused:
        raise ConfigError("resume", plain["resume"] or AUTO, _other_config(refused, folder))
    return differ


def _other_config(refused: Changes, folder: Path) -> str:
    """Return the message for changes that are not allowed, with what the user can do instead."""
    listed = ", ".join(
        f"{key} {as_hydra_takes(before)} -> {as_hydra_takes(now)}" for key, (before, now) in refused.items()
    )
    weights = as_argument(folder, "init_from")
    if any(is_one_of(key, OTHER_DATA) for key in refused):
        hint = f"no run resumes with other data: {weights} starts another one, in another directory, from its weights"
    else:
        hint = f"allow it with 'resume_changes=[{','.join(refused)}]'"
        if any(is_one_of(key, ("model",)) for key in refused):
            hint += f"; a model with other tensors is a new run that starts from these: {weights} hydra.run.dir=NEW"
    return f"the run there began with another config: {listed}; {hint}"


def how_to_resume(folder: Path) -> str:
    """Return the command that resumes a run that was stopped."""
    if not any((folder / CHECKPOINTS).glob("*.ckpt")):
        return "before its first checkpoint"
    typed = [word for word in sys.argv[1:] if not word.startswith(("hydra.run.dir=", "resume="))]
    place = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    arguments = [*typed, f"hydra.run.dir={quoted(str(place))}", "resume=auto"]
    return f"to resume: {own_program()} {shlex.join(arguments)}"


def as_argument(folder: Path, key: str = "resume") -> str:
    """Return the argument that resumes a run, or starts from its weights (`init_from`), as a shell takes it."""
    return shlex.quote(f"{key}={quoted(str(folder))}")

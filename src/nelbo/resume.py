"""What a run that stands in a directory goes on from."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from nelbo.directory import AUTO, CHECKPOINTS, CONFIG, MARK, METRICS, quoted
from nelbo.errors import CheckpointError, ConfigError, DamagedCheckpoint, first_line
from nelbo.identity import FREE_TO_CHANGE, MACHINE_FACTS
from nelbo.loading import read_checkpoint
from nelbo.rewind import Lengths, tables

log = logging.getLogger(__name__)

Changes = dict[str, tuple[Any, Any]]

AT_AN_EPOCHS_END = ("data", "trainer.devices", "trainer.num_nodes", "trainer.limit_train_batches")
"""Where a run stands within an epoch is told in batches, which these keys decide."""


@dataclass(frozen=True)
class Found:
    """A checkpoint that a run can go on from.

    Args:
        file: it.
        step: optimiser steps done.
        epochs: that are over.
        batches: of the next epoch that are over.
        over: whether training was ended before its last epoch.
        best: whether best.ckpt is there, whole.
        provenance: of the data that it was trained on.
        logs: how long the run's logs were.
        resumed: where the run went on with another config before, and what had changed.
    """

    file: Path
    step: int
    epochs: int
    batches: int
    over: bool
    best: bool
    provenance: Mapping[str, Any]
    logs: Lengths
    resumed: Sequence[Mapping[str, Any]]


def find(folder: Path, plain: Mapping[str, Any], resume: str | None) -> Found | None:
    """The checkpoint to go on from; None for a run that starts afresh.

    Args:
        folder: the run's directory.
        plain: its config.
        resume: `auto`, a directory, or None for a run that expects nothing there.

    Raises:
        ConfigError: if there is what nobody asked to go on with, or the config was another.
        CheckpointError: if there is none to go on with, or none of its checkpoints can be read.
    """
    files = sorted((folder / CHECKPOINTS).glob("*.ckpt"))
    if not files:
        if resume not in (None, AUTO):
            raise CheckpointError(f"resume={resume}: holds no checkpoint to go on from; give a run's directory")
        if resume is None or plain["resume"] is not None:  # a cell of a sweep may be made again
            refuse_what_is_there(folder)
        if plain["resume"] == AUTO:
            log.info("resume=auto: no checkpoint in %s yet, so this run starts afresh", folder)
        return None
    if resume is None:
        mend = "holds a run with checkpoints; resume=auto goes on with it, or give another directory"
        raise ConfigError("hydra.run.dir", folder, mend)
    changed = changes(folder, plain)
    found = newest(files)
    most = plain["trainer"]["max_epochs"]
    if found.epochs > most:
        raise ConfigError("trainer.max_epochs", most, f"{folder} has trained {found.epochs} epochs already")
    if not found.best and (found.over or found.epochs == most):
        lost = folder / CHECKPOINTS / "best.ckpt"
        raise CheckpointError(
            f"{lost}: is lost, and training is over; a copy of last.ckpt in its place would be tested"
        )
    if found.batches and (within := [key for key in changed if _is_one_of(key, AT_AN_EPOCHS_END)]):
        mend = f"the run stopped within an epoch, after {found.batches} batches of it: {within[0]} must be as it was"
        raise ConfigError("resume_changes", plain["resume_changes"], mend)
    log.info("going on from %s: step %d, %d epochs are over", found.file, found.step, found.epochs)
    for key, (was, now) in changed.items():
        log.warning("from step %d on with %s=%s, which was %s", found.step, key, now, was)
    if changed:
        entry = {"step": found.step, "changes": {key: list(values) for key, values in changed.items()}}
        found = replace(found, resumed=[*found.resumed, entry])
    return found


def refuse_what_is_there(folder: Path) -> None:
    """A new run writes over nothing: neither results whose checkpoints are gone, nor files of somebody else.

    Raises:
        ConfigError: if there is any.
    """
    ours = (folder / MARK).exists()  # of a try that ended before its first checkpoint
    there = [folder / METRICS] if ours else [folder / CONFIG, folder / METRICS, *tables(folder)]
    if kept := [file.name for file in there if file.exists()]:
        raise ConfigError("hydra.run.dir", folder, f"holds {kept[0]} already; give another directory")


def newest(files: Sequence[Path]) -> Found:
    """The checkpoint with the most steps among those that are whole; what is passed over is said.

    Steps and not file times: a clock may have been set back.

    Raises:
        CheckpointError: if none is whole, or if one is but cannot be read now, or by this version.
    """
    whole: dict[str, Found] = {}
    damaged = []
    for file in files:
        try:
            whole[file.name] = found_in(file, read_checkpoint(file))
        except DamagedCheckpoint as error:
            damaged.append(str(error))
    if not whole:
        raise CheckpointError(f"{'; '.join(damaged)}; delete them to start afresh")
    found = max(whole.values(), key=lambda found: (found.step, found.file.name == "last.ckpt"))
    for told in damaged:
        log.warning("passed over, for %s (step %d): %s", found.file.name, found.step, told)
    return replace(found, best="best.ckpt" in whole)


def found_in(file: Path, checkpoint: Mapping[str, Any]) -> Found:
    """Where the run stood when a checkpoint was written, as Lightning's loops say it.

    Raises:
        DamagedCheckpoint: if it has only the weights.
    """
    if not {"loops", "random_states", "logs", "over"} <= checkpoint.keys():
        raise DamagedCheckpoint(f"{file}: has no state to go on from; nelbo.load still reads its model")
    loops = checkpoint["loops"]["fit_loop"]
    epoch, batch = loops["epoch_progress"]["current"], loops["epoch_loop.batch_progress"]["current"]
    record = checkpoint["nelbo"]
    return Found(
        file=file,
        step=checkpoint["global_step"],
        epochs=epoch["processed"],
        batches=batch["ready"] if epoch["ready"] > epoch["processed"] else 0,
        over=checkpoint["over"],
        best=False,
        provenance=record["provenance"],
        logs=checkpoint["logs"],
        resumed=record["resumed"],
    )


def changes(folder: Path, plain: Mapping[str, Any]) -> Changes:
    """What differs from how the run began, where that is allowed: the epochs, and what `resume_changes` names.

    Raises:
        ConfigError: listing what else differs.
    """
    try:
        before = yaml.safe_load((folder / CONFIG).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise CheckpointError(f"{folder / CONFIG}: cannot be read ({first_line(error)})") from error
    differ = differences(before, plain)
    if plain["data"]["shape"] is None:  # the run filled it in, also where it is interpolated
        filled = before["data"]["shape"]
        differ = {key: pair for key, pair in differ.items() if pair != (filled, None)}
    differ = {key: pair for key, pair in differ.items() if not _is_one_of(key, (*MACHINE_FACTS, "budget"))}
    allowed = (*FREE_TO_CHANGE, *plain["resume_changes"])
    refused = {key: pair for key, pair in differ.items() if not _is_one_of(key, allowed)}
    if refused:
        told = ", ".join(f"{key} {was} -> {now}" for key, (was, now) in refused.items())
        mend = f"the run there began otherwise: {told}; allow it with 'resume_changes=[{','.join(refused)}]'"
        raise ConfigError("resume", plain["resume"] or AUTO, mend)
    return differ


def _is_one_of(key: str, names: Sequence[str]) -> bool:
    """Whether a dotted key is one of `names`, or below one."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def differences(before: Any, after: Any, path: str = "") -> Changes:
    """What two plain configs say differently, by dotted key; None where one of them says nothing."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found: Changes = {}
        for key in dict.fromkeys([*before, *after]):
            found |= differences(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
        return found
    return {} if before == after else {path: (before, after)}


def how_to_go_on(folder: Path) -> str:
    """The command that goes on with a run that was stopped."""
    if not any((folder / CHECKPOINTS).glob("*.ckpt")):
        return "before its first checkpoint"
    typed = [word for word in sys.argv[1:] if not word.startswith(("hydra.run.dir=", "resume="))]
    place = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    command = ["python", os.path.relpath(sys.argv[0]), *typed, f"hydra.run.dir={quoted(str(place))}", "resume=auto"]
    return f"to go on: {shlex.join(command)}"


def as_argument(folder: Path) -> str:
    """The argument that goes on with a run, as a shell takes it."""
    return shlex.quote(f"resume={quoted(str(folder))}")

"""What a run that stands in a directory goes on from."""

from __future__ import annotations

import logging
import math
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from nelbo.config.identity import FREE_TO_CHANGE, MACHINE_FACTS, content
from nelbo.config.quoting import quoted
from nelbo.directories.logs import Lengths
from nelbo.directories.names import AUTO, CHECKPOINTS, MARK, METRICS, WRITTEN
from nelbo.errors import CheckpointError, ConfigError, DamagedCheckpoint, as_hydra_takes
from nelbo.running.directory import refuse_files

log = logging.getLogger(__name__)


AT_AN_EPOCHS_END = (
    *("data", "trainer.devices", "trainer.num_nodes", "trainer.limit_train_batches", "trainer.overfit_batches"),
)
"""Where a run stands within an epoch is told in batches, which these keys decide."""

OTHER_DATA = ("data.name", "data.protocol", "data.validation_size", "data.seed")
"""Keys of what a checkpoint says of its data: where one of them differs, these are others."""


@dataclass(frozen=True)
class Found:
    """A checkpoint that a run can go on from.

    Args:
        file: it.
        step: optimiser steps done.
        epochs: that are over.
        batches: of the next epoch that are over.
        over: whether a callback had ended training before its last epoch.
        in_validation: whether it was written where a validation begins, which is run again.
        best: whether best.ckpt is there, whole.
        provenance: of the data that it was trained on.
        logs: how long the run's logs were.
        resumed: where the run went on with another config or environment before, and what had changed.
        environment: what of versions and hardware the checkpoint says; how many processes wrote it, at least.
        init_from: the weights that it started from, if it did from others' (`nelbo.training.weights`).
    """

    file: Path
    step: int
    epochs: int
    batches: int
    over: bool
    in_validation: bool
    best: bool
    provenance: Mapping[str, Any]
    logs: Lengths
    resumed: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]
    init_from: Mapping[str, Any] | None

    def going_on(self, now: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """`resumed` of a run that goes on from here, with what of versions and hardware is otherwise `now`.

        Raises:
            ConfigError: within an epoch, on another number of processes.
        """
        changed = {key: [was, now.get(key)] for key, was in self.environment.items() if was != now.get(key)}
        if self.batches and "processes" in changed:
            was, becomes = changed["processes"]
            hint = f"stopped within an epoch, after {self.batches} batches in each of {was} processes; there are now"
            raise ConfigError("resume", self.file, f"{hint} {becomes}, whose batches are others: start {was}")
        for key, (was, becomes) in changed.items():
            log.warning("from step %d on with %s %s, which was %s", self.step, key, becomes, was)
        entries = [dict(entry) for entry in self.resumed]
        if changed:
            if not entries or entries[-1]["step"] != self.step:
                entries.append({"step": self.step, "changes": {}})
            told = {f"environment.{key}": pair for key, pair in changed.items()}
            entries[-1]["changes"] = {**entries[-1]["changes"], **told}
        return list(entries)

    @property
    def position(self) -> tuple[int, int]:
        """Epochs that are over, and batches of the next one."""
        return self.epochs, self.batches


def find(
    folder: Path,
    plain: Mapping[str, Any],
    resume: str | None,
    first_config: Callable[[Path], Any] = lambda folder: None,
) -> Found | None:
    """The checkpoint to go on from; None for a run that starts afresh.

    Args:
        folder: the run's directory.
        plain: its config.
        resume: `auto`, a directory, or None for a run that expects nothing there.
        first_config: what the words that began the run of a directory mean now, or None; asked for keys that are new.

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
        hint = "holds a run with checkpoints; resume=auto goes on with it, or give another directory"
        raise ConfigError("hydra.run.dir", folder, hint)
    changed = changes(folder, plain, first_config)
    found = newest(files)
    if changed.pop("init_from", None) and (
        not found.init_from or content(plain["init_from"]) != content(found.init_from)
    ):
        hint = f"is where a run starts from; the one in {folder} goes on from its own weights: leave that as it was"
        raise ConfigError("init_from", plain["init_from"], hint)
    refuse_less(found, folder, plain["trainer"]["max_epochs"], plain["trainer"].get("max_steps"))
    if found.batches and (within := [key for key in changed if is_one_of(key, AT_AN_EPOCHS_END)]):
        hint = f"the run stopped within an epoch, after {found.batches} batches of it: {within[0]} must be as it was"
        raise ConfigError("resume_changes", plain["resume_changes"], hint)
    log.info("going on from %s: step %d, %d epochs are over", found.file, found.step, found.epochs)
    for key, (was, now) in changed.items():
        log.warning("from step %d on with %s=%s, which was %s", found.step, key, now, was)
    if changed:
        entry = {"step": found.step, "changes": {key: list(values) for key, values in changed.items()}}
        found = replace(found, resumed=[*found.resumed, entry])
    return found


def refuse_less(found: Found, folder: Path, epochs: int | None, steps: int | None) -> None:
    """Refuse to go on with a run that has trained longer than it shall, or that cannot be tested any more.

    Args:
        found: where it stands.
        folder: the run's directory.
        epochs: how many it shall train for; None or -1: no limit.
        steps: how many optimiser steps it shall make; the same.

    Raises:
        ConfigError: if it has trained longer.
        CheckpointError: if training is over, and the checkpoint to test is not there.
    """
    most, most_steps = (math.inf if limit in (None, -1) else limit for limit in (epochs, steps))
    if found.epochs > most:
        raise ConfigError("trainer.max_epochs", most, f"{folder} has trained {found.epochs} epochs already")
    if found.step > most_steps:
        raise ConfigError("trainer.max_steps", most_steps, f"{folder} has made {found.step} steps already")
    is_over = found.over or found.epochs == most or found.step == most_steps
    if is_over and not found.best and not found.in_validation:
        lost = folder / CHECKPOINTS / "best.ckpt"
        raise CheckpointError(
            f"{lost}: is lost, and training is over; a copy of last.ckpt in its place would be tested"
        )


def longer(found: Found, folder: Path, epochs: int) -> list[dict[str, Any]]:
    """What to note in the record where the budget, and no typed number, gives another number of epochs than before."""
    before = read_config(folder)["trainer"].get("max_epochs")
    if before == epochs:
        return []
    log.warning("from step %d on with trainer.max_epochs=%d, which was %s", found.step, epochs, before)
    return [{"step": found.step, "changes": {"trainer.max_epochs": [before, epochs]}}]


def refuse_what_is_there(folder: Path) -> None:
    """A new run writes over nothing: neither results whose checkpoints are gone, nor files of somebody else.

    Raises:
        ConfigError: if there is any.
    """
    ours = (folder / MARK).exists()  # of a try that ended before its first checkpoint
    refuse_files(folder, [METRICS] if ours else WRITTEN)


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
        in_validation=checkpoint.get("in_validation", False),
        best=False,
        provenance=record["provenance"],
        logs=checkpoint["logs"],
        resumed=record["resumed"],
        environment={"processes": len(checkpoint["random_states"]["ranks"]), **record.get("environment", {})},
        init_from=record.get("init_from"),
    )


def changes(folder: Path, plain: Mapping[str, Any], first_config: Callable[[Path], Any]) -> Changes:
    """What differs from how the run began, where that is allowed: how long it trains, and what `resume_changes` names.

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
        # A key that the shipped config has got since the run began is no change where it is what that says.
        first = first_config(folder)
        differ = {key: pair for key, pair in differ.items() if key not in new or value_at(first, key) != pair[1]}
    allowed = (*FREE_TO_CHANGE, *plain["resume_changes"], "init_from")  # which `find` looks at
    refused = {key: pair for key, pair in differ.items() if not is_one_of(key, allowed)}
    if refused:
        told = ", ".join(f"{key} {as_hydra_takes(was)} -> {as_hydra_takes(now)}" for key, (was, now) in refused.items())
        weights = as_argument(folder, "init_from")
        hint = f"allow it with 'resume_changes=[{','.join(refused)}]'"
        if any(is_one_of(key, OTHER_DATA) for key in refused):
            hint = (
                f"no run goes on with other data: {weights} starts another one, in another directory, from its weights"
            )
        elif any(is_one_of(key, ("model",)) for key in refused):
            hint += f"; a model with other tensors is a new run that starts from these: {weights} hydra.run.dir=NEW"
        hint = f"the run there began otherwise: {told}; {hint}"
        raise ConfigError("resume", plain["resume"] or AUTO, hint)
    return differ


def how_to_go_on(folder: Path) -> str:
    """The command that goes on with a run that was stopped."""
    if not any((folder / CHECKPOINTS).glob("*.ckpt")):
        return "before its first checkpoint"
    typed = [word for word in sys.argv[1:] if not word.startswith(("hydra.run.dir=", "resume="))]
    place = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    command = ["python", os.path.relpath(sys.argv[0]), *typed, f"hydra.run.dir={quoted(str(place))}", "resume=auto"]
    return f"to go on: {shlex.join(command)}"


def as_argument(folder: Path, key: str = "resume") -> str:
    """The argument that goes on with a run, or starts from its weights (`init_from`), as a shell takes it."""
    return shlex.quote(f"{key}={quoted(str(folder))}")

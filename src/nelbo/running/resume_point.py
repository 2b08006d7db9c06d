"""A checkpoint from which a run can resume."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nelbo.directories.logs import Lengths
from nelbo.errors import ConfigError, DamagedCheckpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint from which a run can resume.

    Args:
        file: the checkpoint.
        step: optimiser steps made.
        epochs: epochs completed.
        batches: batches completed of the next epoch.
        over: whether a callback had ended training before its last epoch.
        in_validation: whether it was written at the beginning of a validation, which is run again.
        best: whether best.ckpt exists and is whole.
        provenance: of the data that the run was trained on.
        logs: the lengths of the run's logs.
        resumed: earlier points from which the run resumed with another config or environment, and what had changed.
        environment: the versions and hardware that the checkpoint records, at least the number of processes.
        init_from: the weights of another run that this one started from, if it did (`nelbo.training.weights`).
        content: what the file holds, until `take` returns it.
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
    content: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def take(self) -> dict[str, Any]:
        """Return what the file holds and let go of it, so that it takes no memory during training."""
        content = dict(self.content)
        self.content.clear()
        return content

    def history(self, environment: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return `resumed` of a run that resumes here, with what differs in its environment.

        Args:
            environment: of the process that resumes.

        Raises:
            ConfigError: within an epoch, on another number of processes.
        """
        changed = {
            key: [before, environment.get(key)]
            for key, before in self.environment.items()
            if before != environment.get(key)
        }
        if self.batches and "processes" in changed:
            before, now = changed["processes"]
            hint = (
                f"stopped within an epoch, after {self.batches} batches in each of {before} processes; there are now "
                f"{now}, whose batches are others: start {before}"
            )
            raise ConfigError("resume", self.file, hint)
        for key, (before, now) in changed.items():
            log.warning("from step %d on with %s %s, which was %s", self.step, key, now, before)
        entries = [dict(entry) for entry in self.resumed]
        if changed:
            if not entries or entries[-1]["step"] != self.step:
                entries.append({"step": self.step, "changes": {}})
            named = {f"environment.{key}": pair for key, pair in changed.items()}
            entries[-1]["changes"] = {**entries[-1]["changes"], **named}
        return list(entries)

    @property
    def position(self) -> tuple[int, int]:
        """Epochs completed, and batches completed of the next one."""
        return self.epochs, self.batches


def resume_point_of(file: Path, checkpoint: dict[str, Any]) -> ResumePoint:
    """Return where the run stood when a checkpoint was written, by the state of Lightning's loops.

    Raises:
        DamagedCheckpoint: if it has only the weights.
    """
    if not {"loops", "random_states", "logs", "over"} <= checkpoint.keys():
        raise DamagedCheckpoint(f"{file}: has no state to resume from; nelbo.load still reads its model")
    loops = checkpoint["loops"]["fit_loop"]
    epoch, batch = loops["epoch_progress"]["current"], loops["epoch_loop.batch_progress"]["current"]
    record = checkpoint["nelbo"]
    return ResumePoint(
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
        content=checkpoint,
    )

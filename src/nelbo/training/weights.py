"""Weights of other checkpoints: `init_from=RUN` takes what fits, a run that goes on takes all."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nelbo.checkpoints.record import RECORD, checkpoint_file, read_checkpoint
from nelbo.config.identity import content
from nelbo.config.quoting import quoted
from nelbo.errors import CheckpointError, ConfigError

log = logging.getLogger(__name__)
MOST_NAMES = 20
"""In a line of the log; all of them are in the checkpoint's record."""


@dataclass(frozen=True)
class Fit:
    """Which tensors of a checkpoint a module has a place for, by name.

    Args:
        taken: of the same name and shape.
        other_shape: of the same name only.
        missing: what the checkpoint does not have.
        unused: what the module does not have.
        kept: what the config or the data say, and no training: a fixed sigma, the number of images.
    """

    taken: Sequence[str]
    other_shape: Sequence[str]
    missing: Sequence[str]
    unused: Sequence[str]
    kept: Sequence[str]

    def lines(self) -> list[str]:
        """For the log, a line a group that is not empty."""
        told = {
            "taken": self.taken,
            "of another shape, not taken": self.other_shape,
            "not in the checkpoint": self.missing,
            "not in this model": self.unused,
            "as the config and the data say, not taken": self.kept,
        }
        return [f"tensors {group} ({len(names)}): {_listed(names)}" for group, names in told.items() if names]


def fit(module: nn.Module, state: Mapping[str, Tensor]) -> Fit:
    """Compare the names and shapes of a module's tensors with those of a checkpoint's state_dict.

    A module that holds what it was given and not what it has learned names such buffers in `given_buffers`.
    """
    ours = module.state_dict()
    given = {
        f"{place}.{name}".lstrip(".")
        for place, part in module.named_modules()
        for name in getattr(part, "given_buffers", ())
    }
    both = [name for name in ours if name in state and name not in given]
    return Fit(
        taken=[name for name in both if ours[name].shape == state[name].shape],
        other_shape=[name for name in both if ours[name].shape != state[name].shape],
        missing=[name for name in ours if name not in state and name not in given],
        unused=[name for name in state if name not in ours],
        kept=[name for name in ours if name in given],
    )


def start_from(module: nn.Module, path: str) -> dict[str, Any]:
    """Give a module the weights of a run's best checkpoint, or of a checkpoint, as far as they fit; and say which.

    Args:
        module: a model and its objective, as checkpoints name their tensors.
        path: a run's directory or a checkpoint, read as safely as `nelbo.load` reads it; nothing in it is built.

    Returns:
        For the record of checkpoints: `path`, `sha256` (of the file), `step`, `provenance`, and the groups of `Fit`.

    Raises:
        ConfigError: if there is no such checkpoint, or nothing of it fits.
    """
    digest = content(path)
    try:
        file = checkpoint_file(path)
        checkpoint = read_checkpoint(file)
    except CheckpointError as error:
        raise ConfigError("init_from", path, str(error)) from error
    state = checkpoint["state_dict"]
    found = fit(module, state)
    if not found.taken:
        raise ConfigError("init_from", path, f"nothing of it fits this model: {'; '.join(found.lines())}")
    module.load_state_dict({name: state[name] for name in found.taken}, strict=False)
    for line in found.lines():
        log.info("init_from=%s: %s", path, line)
    origin = {"path": str(file), "sha256": digest, "step": checkpoint.get("global_step")}
    return {**origin, "provenance": checkpoint[RECORD].get("provenance"), **vars(found)}


def told_in_metrics(origin: Mapping[str, Any]) -> dict[str, Any]:
    """What `start_from` gave, with numbers of tensors in place of their names."""
    return {key: len(value) if isinstance(value, list) else value for key, value in origin.items()}


def refuse_other_tensors(file: Path, module: nn.Module) -> None:
    """What a run goes on from must fit its model, whatever `resume_changes` allows.

    Raises:
        CheckpointError: if it does not.
    """
    try:
        module.load_state_dict(read_checkpoint(file)["state_dict"])
    except RuntimeError as error:
        weights = shlex.quote(f"init_from={quoted(str(file.parent.parent))}")
        hint = f"a new run starts from those that fit, without resume: {weights} hydra.run.dir=NEW"
        raise CheckpointError(f"{file}: its tensors are not those of this config's model; {hint}") from error


def _listed(names: Sequence[str]) -> str:
    shown = [name.removeprefix("model.") for name in names[:MOST_NAMES]]
    return ", ".join(shown) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")

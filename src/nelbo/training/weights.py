"""Weights from checkpoints: `init_from=RUN` loads the tensors that fit, and a resumed run requires all of them."""

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
MAX_NAMES = 20
"""Number of tensors named in a line of the log; the checkpoint's record lists all of them."""


@dataclass(frozen=True)
class Fit:
    """The names of a module's and a checkpoint's tensors, grouped by whether they fit.

    Args:
        taken: tensors with the same name and shape, which are loaded.
        other_shape: tensors with the same name and another shape.
        missing: tensors that the checkpoint does not have.
        unused: tensors that the module does not have.
        kept: buffers set by the config or the data and not by training, such as a fixed sigma or the number of images.
    """

    taken: Sequence[str]
    other_shape: Sequence[str]
    missing: Sequence[str]
    unused: Sequence[str]
    kept: Sequence[str]

    def lines(self) -> list[str]:
        """Return one line per group that is not empty, for the log."""
        groups = {
            "loaded": self.taken,
            "of another shape, not loaded": self.other_shape,
            "not in the checkpoint": self.missing,
            "not in this model": self.unused,
            "set by the config or the data, not loaded": self.kept,
        }
        return [f"tensors {group} ({len(names)}): {_listed(names)}" for group, names in groups.items() if names]


def fit(module: nn.Module, state: Mapping[str, Tensor]) -> Fit:
    """Compare the names and shapes of a module's tensors with those of a checkpoint's state_dict.

    A module names buffers that were given to it, and not learned, in `given_buffers`.

    Example:
        >>> import torch
        >>> new, old = torch.nn.Linear(2, 3), torch.nn.Linear(4, 3)
        >>> comparison = fit(new, old.state_dict())
        >>> comparison.taken, comparison.other_shape
        (['bias'], ['weight'])
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
    """Load the weights of a run's best checkpoint, or of a checkpoint file, as far as they fit, and log the tensors.

    Args:
        module: a module of a model and its objective, whose tensors are named as in checkpoints.
        path: a run's directory or a checkpoint file. It is read as safely as by `nelbo.load`, and builds nothing.

    Returns:
        An entry for the record of checkpoints: `path`, `sha256` (of the file), `step`, `provenance`, and the groups of
        `Fit`.

    Raises:
        ConfigError: if there is no such checkpoint, or if no tensor fits.
    """
    digest = content(path)
    try:
        file = checkpoint_file(path)
        checkpoint = read_checkpoint(file)
    except CheckpointError as error:
        raise ConfigError("init_from", path, str(error)) from error
    state = checkpoint["state_dict"]
    comparison = fit(module, state)
    if not comparison.taken:
        raise ConfigError("init_from", path, f"none of its tensors fits this model: {'; '.join(comparison.lines())}")
    module.load_state_dict({name: state[name] for name in comparison.taken}, strict=False)
    for line in comparison.lines():
        log.info("init_from=%s: %s", path, line)
    origin = {"path": str(file), "sha256": digest, "step": checkpoint.get("global_step")}
    return {**origin, "provenance": checkpoint[RECORD].get("provenance"), **vars(comparison)}


def summary_for_metrics(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of `start_from` for metrics.json, with numbers of tensors in place of their names."""
    return {key: len(value) if isinstance(value, list) else value for key, value in origin.items()}


def refuse_other_tensors(file: Path, state: Mapping[str, Tensor], module: nn.Module) -> None:
    """Refuse to resume from a checkpoint whose tensors do not fit the model, whatever `resume_changes` allows.

    Args:
        file: the checkpoint.
        state: its tensors by name.
        module: the module; if all fit, it has their values afterwards.

    Raises:
        CheckpointError: if they do not fit.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        weights = shlex.quote(f"init_from={quoted(str(file.parent.parent))}")
        hint = f"start a new run from those that fit, without resume: {weights} hydra.run.dir=NEW"
        raise CheckpointError(f"{file}: its tensors do not match this config's model; {hint}") from error


def _listed(names: Sequence[str]) -> str:
    shown = [name.removeprefix("model.") for name in names[:MAX_NAMES]]
    return ", ".join(shown) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")

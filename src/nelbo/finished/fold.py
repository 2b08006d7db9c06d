"""Writing a model that was trained for many settings, folded at one of them, as a checkpoint of an ordinary VAE."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nelbo.checkpoints.container import write_plain
from nelbo.checkpoints.load import build_model
from nelbo.checkpoints.record import FOLDED, RECORD
from nelbo.errors import ConfigError, first_line
from nelbo.finished.run import FinishedRun
from nelbo.models import VAE, BoundModel

TARGET = "nelbo.models.VAE"
DROPPED = ("rates", "nesting")


def write_folded(run: FinishedRun, file: Path) -> VAE:
    """Write the model of a run, folded at the setting that it is bound to, as a checkpoint.

    `nelbo.load` and the commands open the file as a run's checkpoint of an ordinary model. Its data and provenance are
    those of the run, the weights those that `run` has: the average, if it has one. Its record says at which setting
    and from which file it was folded.

    Args:
        run: the run, opened with a setting: `FinishedRun.open(path, setting={"beta": 0.5, "latent_dim": 8})`.
        file: the file to write, which must not exist.

    Returns:
        The folded model, as `nelbo.load` builds it of the file.

    Raises:
        ConfigError: if the model cannot be folded, or the file exists or cannot be written.
        CheckpointError: if the folded model cannot be built from the run's config, because of parts of the user's own.
    """
    refuse_place(file)
    bound = run.model if isinstance(run.model, BoundModel) else BoundModel(run.model, {})
    folded = bound.folded()
    content = {
        RECORD: {
            **run.record,
            "model": folded_config(run.record["model"], folded),
            FOLDED: {"at": dict(run.setting), "checkpoint": run.file.name, "checkpoint_sha256": run.sha256},
        },
        "state_dict": {f"model.{name}": value.detach().cpu() for name, value in folded.state_dict().items()},
        "global_step": run.step,
    }
    built = build_model(content, file, run.allow)
    assert isinstance(built, VAE)
    try:
        write_plain(content, file)
    except OSError as error:
        raise unwritable(file, error) from error
    return built


def refuse_place(file: Path) -> None:
    """Refuse a file that exists, such as a checkpoint of the run, or whose name cannot be one.

    Raises:
        ConfigError: if it is such a file.
    """
    try:
        exists = file.exists()
    except OSError as error:
        raise unwritable(file, error) from error
    if exists:
        raise ConfigError("out", file, "exists already; give another name", located=True)


def unwritable(file: Path, error: OSError) -> ConfigError:
    """Return the error for a file that cannot be written."""
    return ConfigError("out", file, f"cannot be written: {error.strerror or first_line(error)}", located=True)


def folded_config(config: Mapping[str, Any], folded: VAE) -> dict[str, Any]:
    """Return the config of a folded model.

    Args:
        config: that of the model with all settings.
        folded: the folded model.

    Raises:
        ConfigError: if a function of the user's own makes the model, whose arguments are unknown.
    """
    if config["_target_"] != TARGET:
        hint = f"cannot be written as a folded model; only {TARGET} can, and in Python model.at(...).folded()"
        raise ConfigError("model._target_", config["_target_"], hint, located=True)
    rest = {key: value for key, value in config.items() if key not in DROPPED}
    has_shift = getattr(folded.posterior, "log_scale_shift", None) is not None
    posterior = {**config["posterior"], **({"log_scale_shift": True} if has_shift else {})}
    return {**rest, "latent_dim": folded.latent_dim, "posterior": posterior}

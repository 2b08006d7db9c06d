"""The identity of a run: a digest of the config values that determine its result."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MACHINE_FACTS = (
    "trainer.accelerator",
    "trainer.strategy",
    "data.num_workers",
    "data.max_megapixels",
    "model.encoder.checkpoint_activations",
    "model.decoder.checkpoint_activations",
    "threads",
    "trial",
    "resume",
    "resume_changes",
    "allow_targets",
)
"""Keys that do not determine the result: they may differ between machines, kinds of sweeps, or starts of a run."""

FREE_TO_CHANGE = (*MACHINE_FACTS, "budget", "trainer.max_epochs", "trainer.max_steps", "trainer.max_time")
"""Keys that may change when a run is resumed. The keys that interpolate values of `budget` are compared themselves."""

ADDED_LATER: dict[str, Any] = {
    "float32": None,
    "discard": False,
    "init_from": None,
    "averaging": {},
    "lr_warm_up": 0,
    "model.posterior.scale": "exp",
    "model.rates.layers": "gates",
    "data.layout": None,
    "data.columns": None,
    "data.labelled": None,
    "data.labelled_copies": 1,
    "data.bits": None,
    "data.alpha": None,
    **dict.fromkeys(("model.encoder.residual", "model.decoder.residual"), False),
    **dict.fromkeys(("trainer.min_epochs", "trainer.max_steps", "trainer.min_steps", "trainer.max_time")),
    **dict.fromkeys(("trainer.val_check_interval", "trainer.gradient_clip_algorithm")),
    **dict.fromkeys(("trainer.deterministic", "trainer.benchmark")),
    "trainer.num_nodes": 1,
    "trainer.accumulate_grad_batches": 1,
    "trainer.overfit_batches": 0,
    "trainer.sync_batchnorm": False,
    "trainer.inference_mode": True,
}
"""Keys that configs of earlier versions lack, with the values that are equivalent to their absence."""

ABSENT_MEANS: dict[str, Any] = {**ADDED_LATER, "model.encoder.center": False, "data.bits": 8}
"""What keys that a run's config lacks meant for it; `center` was no key of `nelbo.nets.MLP`, but of other networks.

Without `bits`, pictures of 16 bits were read with 8; those of 8 bits are read as before, so runs on them are
the same."""

NUMBER_OR_SHARE = (
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "overfit_batches", "val_check_interval"),
    *("validation_size", "test_size", "total_steps", "T_max", "total_iters", "step_size", "milestones", "T_0"),
    *("step_size_up", "step_size_down", "anneal_epochs", "lr_warm_up"),
)
"""Keys for which 1 means one image, batch or step, and 1.0 means all of them."""

LENGTH = 16
"""Number of hexadecimal digits of an identity."""


def identity(plain: Mapping[str, Any], without: Sequence[str] = MACHINE_FACTS) -> str:
    """Return sixteen hexadecimal digits of the SHA-256 of a run's resolved config.

    The number of devices and nodes is part of it, because `data.batch_size` is that of each process.

    Args:
        plain: the config as plain containers, with every interpolation resolved.
        without: dotted keys to leave out.
    """
    config = copy.deepcopy(with_loggers_as_before(plain))
    for dotted in (*without, *ADDED_LATER):
        *groups, key = dotted.split(".")
        holder: Any = config
        for group in groups:
            below = holder.get(group)
            holder = below if isinstance(below, Mapping) else {}  # a model of the user's own may have a value there
        if dotted in without or (key in holder and holder[key] == ADDED_LATER[dotted]):
            holder.pop(key, None)
    if config.get("init_from") is not None:
        config["init_from"] = content(config["init_from"])
    config.get("budget", {}).pop("latent_dim", None)  # it is that of the model, which is compared itself
    if config.get("trainer", {}).get("max_epochs") is not None:
        config.get("budget", {}).pop("min_steps", None)  # it has no effect on an explicit number of epochs
    text = json.dumps(_same_numbers(config), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def content(origin: Any) -> str:
    """Return the SHA-256 of the checkpoint that `init_from` refers to.

    Args:
        origin: a run's directory, or a checkpoint; or the record that a run stored of it, which is used without reading
            the file.

    Returns:
        The digest; the path itself if there is no such file, which the run will refuse.
    """
    if isinstance(origin, Mapping):
        return str(origin["sha256"])
    file = Path(str(origin))
    file = file / "checkpoints" / "best.ckpt" if file.is_dir() else file
    try:
        stat = file.stat()
        return _sha256(file.absolute(), stat.st_mtime_ns, stat.st_size)
    except (OSError, ValueError):
        return str(origin)


@functools.lru_cache(maxsize=256)
def _sha256(file: Path, changed: int, size: int) -> str:
    """Return the SHA-256 of a file; the other arguments make the cache read a file again after it has changed."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def with_loggers_as_before(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with its logger unnamed, as in earlier versions, if there is at most one.

    The identity of runs and cells from before loggers had names thus stays the same.
    """
    loggers = plain.get("logger")
    if not isinstance(loggers, Mapping) or "_target_" in loggers:
        return dict(plain)
    used = [spec for spec in loggers.values() if spec is not None]
    return {**plain, "logger": used[0] if used else {}} if len(used) < 2 else dict(plain)


def _same_numbers(value: Any, key: str = "") -> Any:
    """Return a value in which 1.0 is written as 1, except for keys where 1 and 1.0 have different meanings."""
    if isinstance(value, Mapping):
        return {name: _same_numbers(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_same_numbers(item, key) for item in value]
    if key in NUMBER_OR_SHARE and type(value) is int and value == 1:
        return "one"
    return int(value) if isinstance(value, float) and value.is_integer() else value

"""Which runs are the same run: a digest of what decides the result, and of nothing else."""

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
    "threads",
    "trial",
    "resume",
    "resume_changes",
    "allow_targets",
)
"""What may differ between machines, searches and grids, or starts of a run, without another result being meant."""

FREE_TO_CHANGE = (*MACHINE_FACTS, "budget", "trainer.max_epochs", "trainer.max_steps", "trainer.max_time")
"""What may differ when a run goes on. What the budget says stands elsewhere too, where it is compared."""

ADDED_LATER: dict[str, Any] = {
    "float32": None,
    "init_from": None,
    **dict.fromkeys(("trainer.min_epochs", "trainer.max_steps", "trainer.min_steps", "trainer.max_time")),
    **dict.fromkeys(("trainer.val_check_interval", "trainer.gradient_clip_algorithm")),
    **dict.fromkeys(("trainer.deterministic", "trainer.benchmark")),
    "trainer.num_nodes": 1,
    "trainer.accumulate_grad_batches": 1,
    "trainer.overfit_batches": 0,
    "trainer.sync_batchnorm": False,
    "trainer.inference_mode": True,
}
"""Keys that runs of earlier versions do not have, with the values under which a run is the same as theirs."""

NUMBER_OR_SHARE = (
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "overfit_batches", "val_check_interval"),
    *("validation_size", "test_size", "total_steps", "T_max", "total_iters", "step_size", "milestones", "T_0"),
    *("step_size_up", "step_size_down", "anneal_epochs"),
)
"""Keys at which 1 is one of something and 1.0 is all."""

LENGTH = 16


def identity(plain: Mapping[str, Any], without: Sequence[str] = MACHINE_FACTS) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a run's resolved config without machine facts.

    Devices and nodes count: `data.batch_size` is that of each process, so they change what is trained.

    Args:
        plain: the config as plain containers, with every interpolation resolved.
        without: dotted keys that do not count.
    """
    told = copy.deepcopy(with_loggers_as_before(plain))
    for fact in (*without, *ADDED_LATER):
        *groups, key = fact.split(".")
        holder: Any = told
        for group in groups:
            holder = holder.get(group, {})
        if fact in without or (key in holder and holder[key] == ADDED_LATER[fact]):
            holder.pop(key, None)
    if told.get("init_from") is not None:
        told["init_from"] = content(told["init_from"])
    if told.get("trainer", {}).get("max_epochs") is not None:
        told.get("budget", {}).pop("min_steps", None)  # it raises no number that is typed
    text = json.dumps(_same_numbers(told), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def content(origin: Any) -> str:
    """What the weights of `init_from` are: the SHA-256 of the checkpoint's file, wherever that lies.

    Args:
        origin: a run's directory or a checkpoint; or what a run recorded of it, which counts also where that is gone.

    Returns:
        The digest; the path itself where there is no file, which the run will refuse.
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
    """Of a file; read again when it has changed."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def with_loggers_as_before(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The config in the shape that it had when a run had one logger, which stood there without a name.

    Where there is one at most: so runs and cells from before loggers had names are known again.
    """
    loggers = plain.get("logger")
    if not isinstance(loggers, Mapping) or "_target_" in loggers:
        return dict(plain)
    used = [spec for spec in loggers.values() if spec is not None]
    return {**plain, "logger": used[0] if used else {}} if len(used) < 2 else dict(plain)


def _same_numbers(value: Any, key: str = "") -> Any:
    """1 and 1.0 are written alike, but where the one is a number and the other all of something."""
    if isinstance(value, Mapping):
        return {name: _same_numbers(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_same_numbers(item, key) for item in value]
    if key in NUMBER_OR_SHARE and type(value) is int and value == 1:
        return "one"
    return int(value) if isinstance(value, float) and value.is_integer() else value

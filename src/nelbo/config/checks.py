"""Checks of a run's config before anything is built.

Classes of nelbo check their own arguments. These checks are for values that are passed to other libraries, which would
refuse them late, with long messages or not at all, and for values that contradict each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from nelbo.config import trainer_keys
from nelbo.config.build import RUN_PREFIXES, check_targets, user_prefixes
from nelbo.config.keys import select
from nelbo.config.ranges import check_ranges
from nelbo.config.slots import check_slots, refuse_missing
from nelbo.config.trainer_checks import check_averaging, check_loggers, check_optimizer, check_scheduler, warm_up
from nelbo.errors import (
    QUOTING_HINT,
    ConfigError,
    boolean,
    choice,
    height_and_width,
    integer,
    number,
    positive_integer,
    quoted_if_literal,
)

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")
PROFILERS = ("simple", "advanced", "pytorch")
SWITCHES = ("discard", "trainer.detect_anomaly", "trainer.inference_mode", "trainer.sync_batchnorm")
MOST_PROCESSES = 1024
MOST_VALUES = 2**40  # in one tensor: four TiB

REFUSED_CALLBACKS = {
    "LearningRateFinder": "trains with a learning rate other than that of the config; sweep optimizer.lr instead",
    "BatchSizeFinder": "trains with a batch size other than that of the config; sweep data.batch_size instead",
    "StochasticWeightAveraging": "cannot be resumed exactly; use averaging=ema",
}
"""Callbacks of Lightning that a run cannot use, and why."""

PARTS = ("data", "model", "objective", "optimizer", "scheduler", "trainer", "guard")
"""Parts that every run needs."""

TRIAL = {"study", "number", "metric", "pruner"}
STORAGE = "NELBO_STORAGE"
"""Environment variable with the URL of the database of a trial's study; it is never stored in a config."""

NEEDED = (
    *("seed", "threads", "float32", "trial", "resume", "resume_changes", "allow_targets", "data.shape"),
    *("trainer.max_epochs", "trainer.check_val_every_n_epoch", "trainer.limit_val_batches"),
)
DATA_PARTS = {
    "nelbo.data.module.ImageData": {
        "source": "choose a set with data=..., such as data=image_folder data.root=photos",
        "augment": "its options are data.augment.flip=true and data.augment.pad_crop=4",
    },
    "nelbo.data.own_dataset.OwnDataset": {"source": "name your Dataset: data.source._target_=my_package.MyDataset"},
    "nelbo.data.own_module.OwnModule": {"module": "name your DataModule: data.module._target_=my_package.MyModule"},
}
"""By the class of the data, its parts that are built, and hints on how to set them."""

CALLED_LATER = ("optimizer", "scheduler", "trainer", "guard")


def _shares(key: str, value: object, minimum: int) -> None:
    """Check a number of batches or a share of them, as Lightning reads it: 5 is five batches, 0.5 half, 1.0 all."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
    share = isinstance(value, float) and (0 < value <= 1 or value == minimum == 0)
    if not whole and not share:
        hint = f"must be a number of batches of at least {minimum}, or a share of them such as 0.5; 1.0 is all"
        raise ConfigError(key, quoted_if_literal(value), hint)


def _batches(key: str, value: object) -> None:
    _shares(key, value, 1)


def _batches_or_none(key: str, value: object) -> None:
    _shares(key, value, 0)


def _betas(key: str, value: object) -> None:
    pair = value if isinstance(value, list) else []
    for index, beta in enumerate(pair):
        if number(f"{key}[{index}]", beta, minimum=0) >= 1:
            raise ConfigError(f"{key}[{index}]", beta, "must be below 1")
    if len(pair) != 2:
        raise ConfigError(key, value, "must be two numbers, such as [0.9,0.999]")


def _epsilon(key: str, value: object) -> None:
    """Check an epsilon: with 0, zero gradients give NaN; above 1, parameters hardly change.

    Adafactor has a pair, of which one may be null.
    """
    for epsilon in value if isinstance(value, list) else [value]:
        if not (epsilon is None and isinstance(value, list)) and number(key, epsilon, positive=True) > 1:
            raise ConfigError(key, value, "must be at most 1")


def _devices(key: str, value: object) -> None:
    """Check a number of devices, "auto" or -1 for all, or a list of their indices."""
    if value in ("auto", -1) or (isinstance(value, str) and value.replace(",", "").isdigit()):
        return
    if isinstance(value, list) and value:
        for index, device in enumerate(value):
            integer(f"{key}[{index}]", device, minimum=0)
    else:
        integer(key, value, minimum=1, maximum=MOST_PROCESSES)


def _profiler(key: str, value: object) -> None:
    if value is not None and not (isinstance(value, dict) and "_target_" in value):
        choice(key, value, PROFILERS)


def _trial(key: str, value: object) -> None:
    if not isinstance(value, dict) or set(value) != TRIAL:
        raise ConfigError(key, value, f"must be null; a search sets it, with {', '.join(sorted(TRIAL))}")


def _name(key: str, value: object) -> None:
    if value is None:
        raise ConfigError(key, value, f"has no default; type {key}=...")
    if not isinstance(value, str) or not value:
        raise ConfigError(key, value, f"must be a name; a number needs {QUOTING_HINT}")


def _names(key: str, value: object) -> None:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ConfigError(key, value, "must be a list of keys, such as [optimizer.lr]")


def _shape(key: str, value: object) -> None:
    if not isinstance(value, list) or len(value) not in (1, 3):
        hint = "must be [channels, height, width], [numbers] for vectors, or null for that of the data"
        raise ConfigError(key, value, hint)
    for index, size in enumerate(value):
        positive_integer(f"{key}[{index}]", size)


def _set_elsewhere(hint: str) -> Callable[[str, object], None]:
    def refuse(key: str, value: object) -> None:
        raise ConfigError(key, value, hint)

    return refuse


def _or_none(check: Callable[[str, object], object]) -> Callable[[str, object], object]:
    return lambda key, value: None if value is None else check(key, value)


def _positive(key: str, value: object) -> None:
    number(key, value, positive=True)


def _not_negative(key: str, value: object) -> None:
    number(key, value, minimum=0)


CHECKS: dict[str, Callable[[str, object], object]] = {
    "seed": lambda key, value: integer(key, value, minimum=0, maximum=2**32 - 1),
    "data.name": _name,
    "data.image_size": height_and_width,
    "data.shape": _or_none(_shape),
    "data.levels": _or_none(lambda key, value: integer(key, value, minimum=2, maximum=256)),
    "data.num_workers": lambda key, value: integer(key, value, minimum=0, maximum=MOST_PROCESSES),
    "guard.skip_above": _or_none(_positive),
    "trial": _or_none(_trial),
    "resume": _or_none(_name),
    "init_from": _or_none(_name),
    "resume_changes": _names,
    "threads": _or_none(lambda key, value: integer(key, value, minimum=1, maximum=MOST_PROCESSES)),
    "float32": _or_none(lambda key, value: choice(key, value, ("ieee", "tf32"))),
    # The budget comes first, because other keys interpolate it and the error should name the key that the user set.
    "budget.epochs": positive_integer,
    "budget.lr": _positive,
    "budget.batch_size": positive_integer,
    "budget.validate_every_n_epochs": positive_integer,
    "budget.pictures_every_n_epochs": positive_integer,
    "budget.betas": _betas,
    "budget.lr_warm_up": warm_up,
    "budget.gradient_clip_val": _or_none(_not_negative),
    "lr_warm_up": warm_up,
    "optimizer.lr": _positive,
    "optimizer.betas": _betas,
    "optimizer.eps": _epsilon,
    "optimizer.weight_decay": _not_negative,
    "optimizer.momentum": _not_negative,
    **{f"optimizer.{name}": _or_none(boolean) for name in ("fused", "foreach")},
    **{f"optimizer.{name}": boolean for name in ("amsgrad", "maximize", "capturable", "differentiable", "nesterov")},
    "trainer.accelerator": lambda key, value: choice(key, value, ACCELERATORS),
    "trainer.devices": _devices,
    "trainer.num_nodes": lambda key, value: integer(key, value, minimum=1, maximum=MOST_PROCESSES),
    "trainer.strategy": lambda key, value: choice(key, value, STRATEGIES),
    "trainer.precision": lambda key, value: choice(key, value, ("32-true", "bf16-mixed", "auto")),
    "trainer.log_every_n_steps": positive_integer,
    "trainer.accumulate_grad_batches": positive_integer,
    "trainer.gradient_clip_val": _or_none(_not_negative),
    "trainer.gradient_clip_algorithm": _or_none(lambda key, value: choice(key, value, ("norm", "value"))),
    "trainer.val_check_interval": _or_none(_batches),
    "trainer.limit_train_batches": _batches,
    "trainer.overfit_batches": _batches_or_none,
    "trainer.limit_val_batches": _batches_or_none,
    "trainer.limit_test_batches": _batches,
    "trainer.num_sanity_val_steps": lambda key, value: integer(key, value, minimum=-1),
    "trainer.use_distributed_sampler": lambda key, value: (
        value is False or _set_elsewhere("must be false: batches are shared between processes already")(key, value)
    ),
    **dict.fromkeys(SWITCHES, boolean) | {"trainer.benchmark": _or_none(boolean)},
    "trainer.profiler": _profiler,
    **trainer_keys.CHECKS,
}
"""Checks of single values by key; a key that the config lacks is not checked."""


def check(plain: Mapping[str, Any]) -> None:
    """Check that a resolved config can be run.

    Raises:
        ConfigError: for the first invalid value.
    """
    check_targets(dict(plain), allowed_targets(plain))
    _check_groups(plain)
    for key, allows in CHECKS.items():
        *parents, name = key.split(".")
        holder = select(plain, ".".join(parents)) if parents else plain
        if isinstance(holder, Mapping) and name in holder:
            allows(key, holder[name])
    for check_part in (check_optimizer, check_scheduler, check_averaging, check_loggers, check_ranges):
        check_part(plain)
    _check_together(plain)


def allowed_targets(plain: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the prefixes of what a run may build: those of every run, and those that the user allows.

    Raises:
        ConfigError: if `allow_targets` is not a list of packages.
    """
    return (*RUN_PREFIXES, *user_prefixes("allow_targets", plain.get("allow_targets", [])))


def _check_groups(plain: Mapping[str, Any]) -> None:
    for key in PARTS:
        refuse_missing(key, plain)
    check_slots(plain["model"])
    _check_data(plain["data"])
    for key in ("logger", "callbacks"):
        if not isinstance(plain.get(key), Mapping):
            raise ConfigError(key, plain.get(key), f"must be a mapping; {key}=none leaves it out")
    for key in NEEDED:
        *parents, name = key.split(".")
        if name not in (select(plain, parents[0]) if parents else plain):
            raise ConfigError(key, "", "a run needs it; do not remove it")
    for key in CALLED_LATER:
        if plain[key] and plain[key].get("_partial_") is not True:
            hint = "must be true: the run gives it the rest of its arguments"
            raise ConfigError(f"{key}._partial_", select(plain, f"{key}._partial_"), hint)
    for key, callback in plain["callbacks"].items():
        target = str(callback.get("_target_")) if isinstance(callback, Mapping) else ""
        if reason := REFUSED_CALLBACKS.get(target.rpartition(".")[2]):
            raise ConfigError(f"callbacks.{key}._target_", target, reason)
        if callback and not (isinstance(callback, Mapping) and "_target_" in callback):
            raise ConfigError(
                f"callbacks.{key}", callback, "must be a mapping with a _target_, or null to leave it out"
            )


def _check_data(data: Mapping[str, Any]) -> None:
    """Check that data have the parts that they need."""
    parts = DATA_PARTS.get(data["_target_"], {})
    for part, hint in parts.items():
        value = data.get(part)
        if not isinstance(value, Mapping) or "_target_" not in value:
            raise ConfigError(f"data.{part}", value, f"must be a mapping with a _target_: {hint}")
    if "source" in parts and data["source"].get("_partial_") is not True:
        hint = "must be true: the data set gives it the rest of its arguments"
        raise ConfigError("data.source._partial_", data["source"].get("_partial_"), hint)


def _check_together(plain: Mapping[str, Any]) -> None:
    trainer_keys.check_together(plain["trainer"], plain.get("budget"))
    devices, batch_size = select(plain, "trainer.devices"), select(plain, "data.batch_size")
    several = len(devices) if isinstance(devices, list) else devices if isinstance(devices, int) else 1
    if several > 1 and batch_size == 1:
        raise ConfigError("data.batch_size", batch_size, f"{several} processes need batches of at least 2 to share")
    if select(plain, "optimizer.fused") and select(plain, "optimizer.foreach"):
        raise ConfigError("optimizer.foreach", True, "cannot be combined with optimizer.fused; use one of them")
    samples, shape = select(plain, "objective.num_samples"), select(plain, "data.shape") or [1]
    if select(plain, "data.shape") and (model_shape := select(plain, "model.shape")) != shape:
        raise ConfigError("model.shape", model_shape, f"must be that of the data, {shape}")
    sizes = (samples, batch_size, *shape)
    if all(isinstance(size, int) for size in sizes) and math.prod(sizes) > MOST_VALUES:
        hint = f"with data.batch_size={batch_size} the images of one batch would take {math.prod(sizes) >> 38} TiB"
        raise ConfigError("objective.num_samples", samples, hint)

"""Checks of what trains a run, which other libraries build: optimiser, scheduler, average of weights, and loggers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nelbo.errors import ConfigError, boolean, number, positive_integer, quoted_if_literal

TOTALS = ("total_steps", "T_max", "total_iters")
"""Options of schedulers that are the number of steps of the whole schedule."""

STEP_COUNTS = (*TOTALS, "step_size", "milestones", "T_0", "step_size_up", "step_size_down", "anneal_epochs")
"""All options that are numbers of steps: a whole number, or a share of the steps of training."""

FACTORS = (
    *("gamma", "factor", "start_factor", "end_factor", "power", "eta_min", "min_lr", "base_lr", "max_lr", "swa_lr"),
    *("pct_start", "div_factor", "final_div_factor", "base_momentum", "max_momentum", "threshold", "eps"),
)
"""Options of schedulers that are numbers, or lists of them; torch checks some of them only when it uses them."""

SCHEDULERS, OPTIMIZERS = "torch.optim.lr_scheduler.", "torch.optim."

REFUSED_OPTIMIZERS = {
    "LBFGS": "evaluates the loss several times per step, which needs a loss without random samples",
    "Muon": "takes matrices only, but networks have biases and kernels too: optimizer=muon updates these as well",
    "SparseAdam": "takes sparse gradients only, but those of these networks are dense",
    "Optimizer": "is the base class of optimisers",
}
REFUSED_SCHEDULERS = {"LRScheduler": "is the base class of schedulers"}
TAKE_FUNCTIONS = ("LambdaLR", "MultiplicativeLR")
COMPOSITE = ("SequentialLR", "ChainedScheduler")
LAST_EPOCH = "is set by the run; resume=auto continues a schedule"
"""Why the option `last_epoch` of a scheduler cannot be set."""

NOT_A_PART = (*COMPOSITE, "OneCycleLR", "CyclicLR", "ReduceLROnPlateau")
"""Schedulers that cannot be part of another: they overwrite the learning rate of others, or consist of others."""


def check_optimizer(plain: Mapping[str, Any]) -> None:
    """Check that the optimiser can train models with random samples and dense gradients.

    Raises:
        ConfigError: if it cannot.
    """
    target = plain["optimizer"]["_target_"]
    if reason := REFUSED_OPTIMIZERS.get(_name(target, OPTIMIZERS)):
        raise ConfigError("optimizer._target_", target, f"{reason}; use another, such as optimizer=adam")


def check_scheduler(plain: Mapping[str, Any]) -> None:
    """Check schedulers of torch: that they can be used, and options that torch itself checks late or not at all.

    Raises:
        ConfigError: for the first problem.
    """
    for path, spec, part_of in _schedulers(plain["scheduler"]):
        _check_one(path, spec, part_of)
    data, trainer = plain["data"], plain["trainer"]
    unvalidated = data.get("validation_size") == 0 or trainer.get("limit_val_batches") == 0
    target = plain["scheduler"]["_target_"]
    if _name(target, SCHEDULERS) == "ReduceLROnPlateau" and unvalidated:
        hint = "needs val/objective and so validation images: set data.validation_size, or use another scheduler"
        raise ConfigError("scheduler._target_", target, hint)


def warm_up(key: str, value: object) -> None:
    """Check a number of steps in which the learning rate rises, or a share of all steps; 0 for none."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not whole and not (isinstance(value, float) and 0 <= value < 1):
        hint = "must be a number of steps of at least 0, or a share of all of them below 1, such as 0.05"
        raise ConfigError(key, quoted_if_literal(value), hint)


def check_averaging(plain: Mapping[str, Any]) -> None:
    """Check that the average of the weights can be built, and that no callback averages them too.

    Raises:
        ConfigError: if it cannot, or one does.
    """
    spec = plain.get("averaging")
    if not spec:  # averaging=none, or a config of an earlier version
        return
    if not isinstance(spec, Mapping) or "_target_" not in spec:
        raise ConfigError("averaging", spec, "must be a mapping with a _target_: choose with averaging=none|ema")
    if spec.get("_partial_") is not True:
        hint = "must be true: the run gives it the rest of its arguments"
        raise ConfigError("averaging._partial_", spec.get("_partial_"), hint)
    for name, callback in plain["callbacks"].items():
        target = str(callback.get("_target_")) if isinstance(callback, Mapping) else ""
        if target.endswith("WeightAveraging"):
            hint = "averages the weights too; use only one of it and averaging=ema"
            raise ConfigError(f"callbacks.{name}._target_", target, hint)


def check_loggers(plain: Mapping[str, Any]) -> None:
    """Check that the loggers can be built.

    Raises:
        ConfigError: for the first one that cannot.
    """
    for name, spec in named_loggers(plain["logger"]).items():
        path = f"logger.{name}" if name else "logger"
        if spec is None:
            continue
        if not isinstance(spec, Mapping) or "_target_" not in spec:
            hint = (
                "must be a mapping with a _target_, or null to leave it out; a logger's options are logger.NAME.OPTION"
            )
            raise ConfigError(path, spec, hint)
        if spec.get("_partial_") is not True:
            hint = "must be true: the run gives it the rest of its arguments"
            raise ConfigError(f"{path}._partial_", spec.get("_partial_"), hint)
        for option, check_option in LOGGER_OPTIONS.items():
            if option in spec and not (spec[option] is None and spec["_target_"] in OF_SERVICES):
                check_option(f"{path}.{option}", spec[option])


def named_loggers(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the loggers of a config by name; the unnamed logger of an earlier version's config has the name ""."""
    return {"": spec} if "_target_" in spec else dict(spec)


def _name(target: object, package: str) -> str:
    """Return the name of a class without its package; empty for a class of another package."""
    return target.removeprefix(package) if isinstance(target, str) and target.startswith(package) else ""


def _schedulers(spec: Any, path: str = "scheduler", part_of: str = "") -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Yield a scheduler and its parts: config path, config, and the name of the scheduler that it is a part of."""
    yield path, spec, part_of
    parts = spec.get("schedulers")
    name = _name(spec.get("_target_"), SCHEDULERS)
    if name not in COMPOSITE:
        return
    if not isinstance(parts, list) or not parts:
        raise ConfigError(f"{path}.schedulers", parts, "must be a list of schedulers")
    for index, part in enumerate(parts):
        place = f"{path}.schedulers[{index}]"
        if not isinstance(part, Mapping) or "_target_" not in part or part.get("_partial_") is not True:
            raise ConfigError(place, part, "must be a mapping with a _target_ and _partial_: true")
        yield from _schedulers(part, place, name)


def _check_one(path: str, spec: Mapping[str, Any], part_of: str) -> None:
    target = spec["_target_"]
    name = _name(target, SCHEDULERS)
    if reason := REFUSED_SCHEDULERS.get(name):
        raise ConfigError(f"{path}._target_", target, reason)
    if part_of and name in NOT_A_PART:
        raise ConfigError(f"{path}._target_", target, f"cannot be a part of {part_of}")
    if part_of == "ChainedScheduler" and name == "CosineAnnealingWarmRestarts":
        hint = "cannot be chained, because it overwrites the learning rate of the others"
        raise ConfigError(f"{path}._target_", target, hint)
    function = spec.get("lr_lambda")
    if name in TAKE_FUNCTIONS and not (isinstance(function, Mapping) and function.get("_partial_") is True):
        hint = "must be a function of the step in a package of allow_targets: {_target_:mypackage.share,_partial_:true}"
        raise ConfigError(f"{path}.lr_lambda", function, hint)
    if not name:
        return  # a class of the user, whose options are unknown
    if "last_epoch" in spec:
        raise ConfigError(f"{path}.last_epoch", spec["last_epoch"], LAST_EPOCH)
    for option in STEP_COUNTS:
        if spec.get(option) is not None:
            _steps(f"{path}.{option}", spec[option])
    for option in FACTORS:
        values = spec.get(option)
        for value in values if isinstance(values, list) else [] if values is None else [values]:
            number(f"{path}.{option}", value, minimum=0)


def _steps(key: str, value: object) -> None:
    if key.endswith(".milestones"):
        if not isinstance(value, list):
            raise ConfigError(key, value, "must be a list of steps, such as [0.5,0.75] or [1000,2000]")
        for index, item in enumerate(value):
            _steps(f"{key}[{index}]", item)
        if len({type(item) for item in value}) == 1 and value != sorted(value):
            raise ConfigError(key, value, "must be in ascending order")
        return
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not whole and not (isinstance(value, float) and 0 < value <= 1):
        hint = "must be a number of steps of at least 1, or a share of them such as 0.5; 1.0 is all"
        raise ConfigError(key, quoted_if_literal(value), hint)


def _text(key: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigError(key, value, "must be text; a number needs quotes within quotes")


def _run_directory(key: str, value: object) -> None:
    raise ConfigError(key, value, "cannot be set; a run's directory is hydra.run.dir=...")


def _uploads(key: str, value: object) -> None:
    raise ConfigError(key, value, "cannot be set; checkpoints stay in the run's directory")


OF_SERVICES = ("nelbo.training.loggers.WandbLogger", "nelbo.training.loggers.MLFlowLogger")
"""Loggers with options that may be null."""

LOGGER_OPTIONS: dict[str, Callable[[str, object], object]] = {
    "name": _text,
    "version": _text,
    **dict.fromkeys(("project", "experiment_name", "run_name", "tracking_uri"), _text),
    "offline": boolean,
    "log_model": _uploads,
    "default_hp_metric": boolean,
    "flush_logs_every_n_steps": positive_integer,
    "save_dir": _run_directory,
}
"""Checks of options of loggers by name; an option that a logger's config lacks is not checked."""

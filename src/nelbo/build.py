"""Plain containers to objects: the one builder, for training and for loading alike.

A mapping with `_target_` becomes a call of that class or function; `_partial_: true` makes it a `Factory`, to be called
later with what only the caller knows (a shape, a parameter list). Nothing outside the allowed prefixes is ever imported
or called, so neither a config nor a checkpoint can run a stranger's code.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nelbo.errors import ConfigError, first_line

MODEL_PREFIXES = ("nelbo.models.", "nelbo.nets.", "nelbo.heads.", "nelbo.priors.", "nelbo.schedules.")
RUN_PREFIXES = (
    *MODEL_PREFIXES,
    "nelbo.objectives.",
    "nelbo.data.",
    "nelbo.training.",
    "torch.optim.",
    "pytorch_lightning.Trainer",
    "pytorch_lightning.callbacks.",
    "pytorch_lightning.loggers.",
    "pytorch_lightning.profilers.",
    "optuna.pruners.",
)


class Factory:
    """A target with some of its arguments: call it with the rest. Errors name the place in the config."""

    def __init__(self, target: Callable[..., Any], arguments: Mapping[str, Any], path: str) -> None:
        self.target, self.arguments, self.path = target, dict(arguments), path

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """The object.

        Raises:
            ConfigError: for an argument that the target does not know, lacks or refuses.
        """
        arguments = {**self.arguments, **kwargs}
        _check_arguments(self.target, args, arguments, self.path)
        try:
            return self.target(*args, **arguments)
        except ConfigError as error:
            raise error.within(self.path) from error.__cause__
        except (TypeError, ValueError) as error:
            if self.target.__module__.startswith("nelbo."):
                raise
            raise ConfigError(self.path, self.target.__name__, first_line(error), located=True) from error

    def __repr__(self) -> str:
        return f"Factory({self.target.__qualname__}, {self.arguments})"


def build(spec: object, path: str = "", allowed: Sequence[str] = RUN_PREFIXES) -> Any:
    """Build everything in `spec`, a tree of dicts, lists and scalars; `path` says where in the config it stands.

    Raises:
        ConfigError: for a target outside `allowed`, one that does not exist, or arguments that it refuses.
    """
    if isinstance(spec, Mapping):
        children = {
            key: build(value, f"{path}.{key}" if path else str(key), allowed)
            for key, value in spec.items()
            if key not in ("_target_", "_partial_")
        }
        if "_target_" not in spec:
            return children
        factory = Factory(_resolve(spec["_target_"], path, allowed), children, path)
        if not spec.get("_partial_", False):
            return factory()
        _check_known(factory.target, children, path)  # now: the rest of the arguments may be minutes away
        return factory
    if isinstance(spec, list | tuple):
        return [build(value, f"{path}[{index}]", allowed) for index, value in enumerate(spec)]
    return spec


def _resolve(name: object, path: str, allowed: Sequence[str]) -> Callable[..., Any]:
    """The class or function called `name`, if it may be built."""
    key = f"{path}._target_" if path else "_target_"
    if not isinstance(name, str) or not name.startswith(tuple(allowed)):
        raise ConfigError(key, name, "is not among the packages whose objects a config may build", located=True)
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
        target = getattr(module, attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(key, name, "does not exist", located=True) from error
    # Of ours, what a module offers: a helper that copies or downloads files is no part of a run.
    if name.startswith("nelbo.") and attribute not in getattr(module, "__all__", ()):
        raise ConfigError(key, name, f"is not one of what {module_name} exports", located=True)
    # A module's own imports are attributes too (nelbo.data.fetch.subprocess): what counts is where the object was made.
    home = getattr(target, "__module__", "") or ""
    if not callable(target) or home.split(".")[0] != name.split(".")[0]:
        raise ConfigError(key, name, "is not a class or a function of that package", located=True)
    return target  # type: ignore[no-any-return]


def _check_arguments(target: Callable[..., Any], args: Sequence[object], kwargs: Mapping[str, Any], path: str) -> None:
    _check_known(target, kwargs, path)
    try:
        inspect.signature(target).bind(*args, **kwargs)
    except TypeError as error:
        raise ConfigError(path, target.__name__, first_line(error), located=True) from error


def _check_known(target: Callable[..., Any], kwargs: Mapping[str, Any], path: str) -> None:
    parameters = inspect.signature(target).parameters
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in kwargs:
        if key not in parameters:
            mend = f"is not an option of {target.__name__}, which has: {', '.join(parameters) or 'none'}"
            raise ConfigError(f"{path}.{key}", kwargs[key], mend, located=True)

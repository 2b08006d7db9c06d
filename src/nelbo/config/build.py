"""Construction of objects from plain containers, for configs and for checkpoints.

A mapping with `_target_` becomes a call of that class or function. With `_partial_: true` it becomes a `Factory`, which
is called later with the arguments that only the caller knows (a shape, a list of parameters). Nothing outside the
allowed packages is imported or called, so that neither a config nor a checkpoint can run arbitrary code. The whole tree
is checked before anything is imported.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nelbo.config.constructor_errors import constructor_message, installed_name, missing_argument, missing_super_call
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
    # Only those packages of torchmetrics that just compute; image, text and audio download weights and tokenizers.
    "torchmetrics.aggregation.",
    "torchmetrics.classification.",
    "torchmetrics.clustering.",
    "torchmetrics.nominal.",
    "torchmetrics.regression.",
    "torchmetrics.retrieval.",
    "zuko.",
)
OTHERS = {prefix.partition(".")[0] for prefix in RUN_PREFIXES} - {"nelbo"}
REFUSALS = (TypeError, ValueError, AttributeError, ArithmeticError, ImportError, RuntimeError)
"""Exceptions that constructors of other packages raise for invalid arguments."""

NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+", re.ASCII)
"""A dotted name of ASCII letters, without `..` and without parts that begin with an underscore."""

PREFIX = re.compile(r"([A-Za-z]\w*\.)+", re.ASCII)
PLAIN = (str, int, float, bool, type(None))
MAX_DEPTH = 32
MAX_VALUES = 100_000  # containers that are nested and repeated can be small to store but take forever to visit

IN_CONFIGS = "allow_targets=[{}.]"
IN_PYTHON = 'nelbo.load(..., allow=("{}.",))'
"""How a user allows another package: on the command line, and in Python."""


class RefusedTarget(ConfigError):
    """A target outside the allowed packages; `allow` is how a user can allow its package, if it may be their own."""

    def __init__(self, key: str, name: str, allow: str = IN_CONFIGS) -> None:
        self.name = name
        package = name.partition(".")[0]
        may_be_own = package not in {*sys.stdlib_module_names, *OTHERS, "nelbo"}
        hint = f"; if {package} is yours, or you trust it: {allow.format(package)}" if may_be_own else ""
        if installed := installed_name(name):
            hint = f"; did you mean {installed}?" if _matches(installed, RUN_PREFIXES) else ""
        super().__init__(key, name, f"is not among the packages whose objects a config may build{hint}", located=True)


class Factory:
    """A class or function with some of its arguments, to be called with the others. Errors name its config `path`."""

    def __init__(self, target: Callable[..., Any], arguments: Mapping[str, Any], path: str) -> None:
        self.target, self.arguments, self.path = target, dict(arguments), path

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Call the target with the remaining arguments.

        Raises:
            ConfigError: if an argument is unknown, missing or invalid.
        """
        arguments = {**self.arguments, **kwargs}
        _check_arguments(self.target, args, arguments, self.path)
        try:
            return self.target(*args, **arguments)
        except ConfigError as error:
            raise error.within(self.path) from error.__cause__
        except REFUSALS as error:
            if "allocate memory" in str(error) or "out of memory" in str(error):
                hint = "needs more memory than there is; make it smaller"
                raise ConfigError(self.path, self.target.__name__, hint, located=True) from error
            if hint := missing_super_call(error):
                raise ConfigError(self.path, self.target.__name__, hint, located=True) from error
            if self.target.__module__.partition(".")[0] not in OTHERS:
                raise
            hint = constructor_message(error, self.arguments)
            raise ConfigError(self.path, self.target.__name__, hint, located=True) from error

    def __repr__(self) -> str:
        return f"Factory({self.target.__qualname__}, {self.arguments})"


def build(spec: object, path: str = "", allowed: Sequence[str] = RUN_PREFIXES) -> Any:
    """Build the objects that a tree of dicts, lists and scalars describes.

    Args:
        spec: the tree.
        path: where it is in the config, for errors.
        allowed: what the names of targets may begin with.

    Raises:
        ConfigError: if a target is not allowed or does not exist, or one of its arguments is invalid.

    Example:
        >>> build({"_target_": "nelbo.schedules.Linear", "start": 0, "end": 1, "steps": 4})(2)
        0.5
    """
    check_targets(spec, allowed, path)
    for key, name in _targets(spec, path):  # all targets must exist before the first object is built
        _resolve(str(name), key, allowed)
    return _build(spec, path, allowed)


def check_targets(plain: object, allowed: Sequence[str] = RUN_PREFIXES, path: str = "") -> None:
    """Check that a tree is plain and names only targets in `allowed`, without importing anything.

    Raises:
        ConfigError: with the key of the first value that is not.
    """
    for key, name in _targets(plain, path):
        if not isinstance(name, str) or not NAME.fullmatch(name):
            hint = "is not the whole dotted name of a class or a function, such as torch.optim.SGD"
            raise ConfigError(key, _shown(name), hint, located=True)
        if not _matches(name, allowed):
            raise RefusedTarget(key, name)


def user_prefixes(key: str, value: object) -> tuple[str, ...]:
    """Return the packages that a user allows beyond `RUN_PREFIXES`, such as [mypackage.].

    A config can import and call anything in these packages. Only the form of their names is checked here.

    Raises:
        ConfigError: if it is not a list of dotted names that end in a dot.
    """
    if not isinstance(value, list | tuple):
        raise ConfigError(key, _shown(value), "must be a list of packages, such as [mypackage.]", located=True)
    for prefix in value:
        if not isinstance(prefix, str) or not PREFIX.fullmatch(prefix):
            hint = "must be a package's name with a dot at its end, such as mypackage."
            raise ConfigError(key, _shown(prefix), hint, located=True)
    return tuple(value)


def _build(spec: object, path: str, allowed: Sequence[str]) -> Any:
    if isinstance(spec, dict):
        children = {
            key: _build(value, f"{path}.{key}" if path else key, allowed)
            for key, value in spec.items()
            if key not in ("_target_", "_partial_")
        }
        if "_target_" not in spec:
            return children
        factory = Factory(_resolve(spec["_target_"], f"{path}._target_", allowed), children, path)
        if not spec.get("_partial_", False):
            return _call(factory)
        _check_known(factory.target, children, path)  # at once, because the factory may be called minutes later
        return factory
    if isinstance(spec, list | tuple):
        return [_build(value, f"{path}[{index}]", allowed) for index, value in enumerate(spec)]
    return spec


def _call(factory: Factory) -> Any:
    """Call a factory without further arguments.

    Raises:
        ConfigError: if an argument is invalid, also for the exception of Lightning, which is not imported here.
    """
    try:
        return factory()
    except Exception as error:
        if type(error).__name__ != "MisconfigurationException":
            raise
        hint = constructor_message(error, factory.arguments)
        raise ConfigError(factory.path, factory.target.__name__, hint, located=True) from error


def _targets(plain: object, path: str) -> Iterator[tuple[str, object]]:
    """Yield the key and the value of every `_target_` in the tree.

    Raises:
        ConfigError: for a value that is not plain, or an invalid key in a mapping.
    """
    # A stack and no recursion, because an untrusted tree may be deeper than Python allows.
    stack: list[tuple[object, str, int, bool]] = [(plain, path, 0, False)]
    seen = 0
    while stack:
        value, place, depth, is_argument = stack.pop()
        seen += 1
        if depth > MAX_DEPTH or seen > MAX_VALUES:
            hint = f"a config is at most {MAX_DEPTH} levels deep and holds at most {MAX_VALUES} values"
            raise ConfigError(place, "...", hint, located=True)
        children: list[tuple[object, str, int, bool]] = []
        if isinstance(value, dict) and type(value) is dict:
            dot = f"{place}." if place else ""
            integer_keys = is_argument and all(type(key) is int for key in value)  # such as {epoch: batches}
            for key in () if integer_keys else value:
                if type(key) is not str or not key.isprintable():
                    raise ConfigError(f"{dot}{_shown(key)}", "...", "keys must be plain text", located=True)
                if key.startswith("_") and key not in ("_target_", "_partial_"):
                    hint = "only _target_ and _partial_ may begin with an underscore"
                    raise ConfigError(f"{dot}{key}", _shown(value[key]), hint, located=True)
            if type(value.get("_partial_", False)) is not bool or ("_partial_" in value and "_target_" not in value):
                hint = "must be true or false, beside a _target_"
                raise ConfigError(f"{dot}_partial_", _shown(value["_partial_"]), hint, located=True)
            if "_target_" in value:
                yield f"{dot}_target_", value["_target_"]
            children = [
                (child, f"{dot}{key}", depth + 1, "_target_" in value)
                for key, child in value.items()
                if key != "_target_"
            ]
        elif isinstance(value, list | tuple) and type(value) in (list, tuple):
            children = [(child, f"{place}[{index}]", depth + 1, False) for index, child in enumerate(value)]
        elif type(value) not in PLAIN:
            raise ConfigError(place, type(value).__name__, "must be text, numbers, lists and mappings", located=True)
        stack += reversed(children)


def _shown(value: object) -> str:
    """Return an untrusted value for an error: at most 80 ASCII characters, and only the type of a container."""
    return ascii(value)[:80] if type(value) in PLAIN else type(value).__name__


def _matches(name: str, allowed: Sequence[str]) -> bool:
    """Return whether a name begins with one of the prefixes; a prefix without a final dot must be the whole name."""
    return any(name.startswith(prefix) if prefix.endswith(".") else name == prefix for prefix in allowed)


def _resolve(name: str, key: str, allowed: Sequence[str]) -> Callable[..., Any]:
    """Import the class or function `name` and check that it may be built; `check_targets` has checked the name."""
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
        target = getattr(module, attribute)
    except AttributeError as error:
        others = {other.lower(): other for other in getattr(module, "__all__", None) or vars(module)}
        near = difflib.get_close_matches(attribute.lower(), others, 1, 0.8)
        suggestion = f"; did you mean {module_name}.{others[near[0]]}?" if near else ""
        raise ConfigError(key, name, f"does not exist{suggestion}", located=True) from error
    except ImportError as error:
        raise ConfigError(key, name, import_failed(name, error), located=True) from error
    if name.startswith("nelbo."):
        home = "nelbo"
        if attribute not in getattr(module, "__all__", ()):  # such as helpers that copy or download files
            raise ConfigError(key, name, f"is not exported by {module_name}", located=True)
    elif _matches(name, RUN_PREFIXES):
        home = module_name
        if not inspect.isclass(target):
            raise ConfigError(key, name, "is not a class; of other packages only classes can be built", located=True)
    else:  # a package that the user allows
        home = name.partition(".")[0]
    # What a module imports is an attribute too (nelbo.data.fetch.subprocess), so the object's own module is checked.
    if not callable(target) or not f"{getattr(target, '__module__', '')}.".startswith(f"{home}."):
        raise ConfigError(key, name, f"is not a class or a function of {home}", located=True)
    return target  # type: ignore[no-any-return]


def import_failed(name: str, error: ImportError) -> str:
    """Return the message for a target whose module cannot be imported, with a hint for the user's own packages."""
    missing = isinstance(error, ModuleNotFoundError)
    if not missing or name.startswith("nelbo.") or _matches(name, RUN_PREFIXES):
        return f"does not exist: {first_line(error)}"
    if f"{name}.".startswith(f"{error.name}."):
        return f"does not exist: {first_line(error)}; give the folder that it is in: PYTHONPATH=FOLDER python ..."
    return f"cannot be imported: {first_line(error)}; install it, or give its folder: PYTHONPATH=FOLDER python ..."


def _check_arguments(target: Callable[..., Any], args: Sequence[object], kwargs: Mapping[str, Any], path: str) -> None:
    _check_known(target, kwargs, path)
    try:
        inspect.signature(target).bind(*args, **kwargs)
    except TypeError as error:
        raise ConfigError(path, target.__name__, missing_argument(error, path), located=True) from error


def _check_known(target: Callable[..., Any], kwargs: Mapping[str, Any], path: str) -> None:
    parameters = inspect.signature(target).parameters
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in kwargs:
        if key not in parameters:
            hint = f"is not an option of {target.__name__}, which has: {', '.join(parameters) or 'none'}"
            if near := difflib.get_close_matches(key, parameters, 1):
                hint += f"; did you mean {near[0]}?"
            raise ConfigError(f"{path}.{key}", kwargs[key], hint, located=True)

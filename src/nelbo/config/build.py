"""Plain containers to objects: the one builder, for training and for loading alike.

A mapping with `_target_` becomes a call of that class or function; `_partial_: true` makes it a `Factory`, to be called
later with what only the caller knows (a shape, a parameter list). Nothing outside the allowed prefixes is ever imported
or called, so neither a config nor a checkpoint can run a stranger's code; and nothing at all is, before the whole tree
has been looked through.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nelbo.config.constructor_errors import left_to_its_base, missing_argument, name_here, refused
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
    # Those of its packages that compute and nothing else: image, text and audio download weights and tokenizers.
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
"""How constructors of other packages say that they were given nonsense."""

NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+", re.ASCII)
"""A dotted name without private parts: no `..`, no `__init__`, no letter that only looks like a Latin one."""

PREFIX = re.compile(r"([A-Za-z]\w*\.)+", re.ASCII)
PLAIN = (str, int, float, bool, type(None))
MAX_DEPTH = 32
MAX_VALUES = 100_000  # a list that holds another one twice, and so on, is short to write and endless to read


IN_CONFIGS = "allow_targets=[{}.]"
IN_PYTHON = 'nelbo.load(..., allow=("{}.",))'
"""How a user allows a package of their own, where it is typed and in Python."""


class RefusedTarget(ConfigError):
    """A target outside the allowed packages; the hint says how its package is allowed, if it may be a user's own."""

    def __init__(self, key: str, name: str, allow: str = IN_CONFIGS) -> None:
        self.name = name
        package = name.partition(".")[0]
        theirs = package not in {*sys.stdlib_module_names, *OTHERS, "nelbo"}
        how = f"; if {package} is yours, or you trust it: {allow.format(package)}" if theirs else ""
        if here := name_here(name):
            how = f"; did you mean {here}?" if _matches(here, RUN_PREFIXES) else ""
        super().__init__(key, name, f"is not among the packages whose objects a config may build{how}", located=True)


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
        except REFUSALS as error:
            if "allocate memory" in str(error) or "out of memory" in str(error):
                hint = "needs more memory than there is; make it smaller"
                raise ConfigError(self.path, self.target.__name__, hint, located=True) from error
            if hint := left_to_its_base(error):
                raise ConfigError(self.path, self.target.__name__, hint, located=True) from error
            if self.target.__module__.partition(".")[0] not in OTHERS:
                raise
            hint = refused(error, self.arguments)
            raise ConfigError(self.path, self.target.__name__, hint, located=True) from error

    def __repr__(self) -> str:
        return f"Factory({self.target.__qualname__}, {self.arguments})"


def build(spec: object, path: str = "", allowed: Sequence[str] = RUN_PREFIXES) -> Any:
    """Build everything in `spec`, a tree of dicts, lists and scalars; `path` says where in the config it stands.

    Raises:
        ConfigError: for a target outside `allowed`, one that does not exist, or arguments that it refuses.
    """
    check_targets(spec, allowed, path)
    for key, name in _targets(spec, path):  # all of them before the first object is made
        _resolve(str(name), key, allowed)
    return _build(spec, path, allowed)


def check_targets(plain: object, allowed: Sequence[str] = RUN_PREFIXES, path: str = "") -> None:
    """Refuse a tree that is not plain or names a target outside `allowed`; nothing is imported for that.

    Raises:
        ConfigError: naming the place.
    """
    for key, name in _targets(plain, path):
        if not isinstance(name, str) or not NAME.fullmatch(name):
            hint = "is not the whole dotted name of a class or a function, such as torch.optim.SGD"
            raise ConfigError(key, _shown(name), hint, located=True)
        if not _matches(name, allowed):
            raise RefusedTarget(key, name)


def user_prefixes(key: str, value: object) -> tuple[str, ...]:
    """The packages that a user trusts beyond `RUN_PREFIXES`, such as [mypackage.].

    Whoever names one lets a config import and call anything in it. Only the form is checked.

    Raises:
        ConfigError: if it is not a list of dotted prefixes that end in a dot.
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
            return _made(factory)
        _check_known(factory.target, children, path)  # now: the rest of the arguments may be minutes away
        return factory
    if isinstance(spec, list | tuple):
        return [_build(value, f"{path}[{index}]", allowed) for index, value in enumerate(spec)]
    return spec


def _made(factory: Factory) -> Any:
    """The object.

    Raises:
        ConfigError: also where Lightning, which is not imported here, refuses an argument in its own way.
    """
    try:
        return factory()
    except Exception as error:
        if type(error).__name__ != "MisconfigurationException":
            raise
        hint = refused(error, factory.arguments)
        raise ConfigError(factory.path, factory.target.__name__, hint, located=True) from error


def _targets(plain: object, path: str) -> Iterator[tuple[str, object]]:
    """Every `_target_` in the tree and where it stands; a stack, because a stranger's tree may be deeper than ours.

    Raises:
        ConfigError: for what is not plain, or has no meaning in a mapping that is to be built.
    """
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
            numbered = is_argument and all(type(key) is int for key in value)  # such as {epoch: batches}
            for key in () if numbered else value:
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
    """A stranger's value in an error: one line of ASCII, not too long, and never the whole of a container."""
    return ascii(value)[:80] if type(value) in PLAIN else type(value).__name__


def _matches(name: str, allowed: Sequence[str]) -> bool:
    """Whether one of the prefixes covers it; one without a dot at its end covers itself alone."""
    return any(name.startswith(prefix) if prefix.endswith(".") else name == prefix for prefix in allowed)


def _resolve(name: str, key: str, allowed: Sequence[str]) -> Callable[..., Any]:
    """The class or function called `name`, if it may be built; `check_targets` has looked at the name."""
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
        target = getattr(module, attribute)
    except AttributeError as error:
        alike = {other.lower(): other for other in getattr(module, "__all__", None) or vars(module)}
        near = difflib.get_close_matches(attribute.lower(), alike, 1, 0.8)
        asked = f"; did you mean {module_name}.{alike[near[0]]}?" if near else ""
        raise ConfigError(key, name, f"does not exist{asked}", located=True) from error
    except ImportError as error:
        raise ConfigError(key, name, import_failed(name, error), located=True) from error
    if name.startswith("nelbo."):
        home = "nelbo"  # and of ours, what a module offers: a helper that copies or downloads files is no part of a run
        if attribute not in getattr(module, "__all__", ()):
            raise ConfigError(key, name, f"is not one of what {module_name} exports", located=True)
    elif _matches(name, RUN_PREFIXES):
        home = module_name
        if not inspect.isclass(target):
            raise ConfigError(key, name, "is not a class, and of other packages only those are built", located=True)
    else:  # the user's own
        home = name.partition(".")[0]
    # A module's own imports are attributes too (nelbo.data.fetch.subprocess): what counts is where the object was made.
    if not callable(target) or not f"{getattr(target, '__module__', '')}.".startswith(f"{home}."):
        raise ConfigError(key, name, f"is not a class or a function of {home}", located=True)
    return target  # type: ignore[no-any-return]


def import_failed(name: str, error: ImportError) -> str:
    """What to say of a target whose module cannot be imported; a user's own may lie where Python does not look."""
    missing = isinstance(error, ModuleNotFoundError)
    if not missing or name.startswith("nelbo.") or _matches(name, RUN_PREFIXES):
        return f"does not exist: {first_line(error)}"
    if f"{name}.".startswith(f"{error.name}."):
        return f"does not exist: {first_line(error)}; say which folder it lies in: PYTHONPATH=FOLDER python ..."
    return f"cannot be imported: {first_line(error)}; install that, or say where it is: PYTHONPATH=FOLDER python ..."


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

"""Exceptions that a user can resolve, and checks of config values that raise them.

A command prints such an exception as one line and exits with status 2. This module imports no other module of nelbo,
so that every module can import it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path

USAGE_ERROR = 2
"""Exit status of a command that failed for a reason that the user can resolve."""

QUOTING_HINT = "quotes within quotes, as in \"KEY='2024'\""
"""How to write a string that Hydra's grammar would parse as a number, a list or another type."""


class NelboError(Exception):
    """Base class of errors that a user can resolve; `train.py` prints one line and exits with status 2."""


class DataError(NelboError):
    """A data set that is unavailable or invalid."""


class CheckpointError(NelboError):
    """A run directory or a checkpoint that cannot be loaded."""


class Diverged(NelboError):
    """Training that was stopped because a value was not finite."""


class DamagedCheckpoint(CheckpointError):
    """A checkpoint with invalid content, so that an older one may be used instead.

    A file that cannot be read at the moment (permissions, I/O errors) raises a plain `CheckpointError`.
    """


class Pruned(NelboError):
    """A run that a hyperparameter search ended early (pruning); not a failure."""


class Stopped(BaseException):
    """A run or a sweep that received a signal to stop.

    It derives from `BaseException`, so that `except Exception` does not catch it.

    Args:
        signum: the number of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class ConfigError(NelboError):
    """An invalid config value; the message is "key=value: hint".

    Constructors raise it with the bare name of their parameter. `nelbo.config.build`, which knows the path of the
    object in the config, prepends that path once.

    Example:
        >>> print(ConfigError("beta", -1, "must be a finite number of at least 0").within("objective"))
        objective.beta=-1: must be a finite number of at least 0

    Args:
        key: the config key, or the name of a constructor's parameter.
        value: the invalid value.
        hint: what is wrong with it and what to do about it.
        located: whether `key` is already a full config key.
    """

    def __init__(self, key: str, value: object, hint: str, *, located: bool = False) -> None:
        self.key, self.value, self.hint, self.located = key, value, hint, located
        super().__init__(f"{key}={as_hydra_takes(value)}: {hint}")

    def within(self, path: str) -> ConfigError:
        """Return this error with `path`, the config key of the object that raised it, before the key."""
        if self.located or not path:
            return self
        return ConfigError(f"{path}.{self.key}", self.value, self.hint, located=True)


def as_hydra_takes(value: object) -> str:
    """Format a config value in Hydra's syntax: `null`, `true`, `{hours:2}`, `[3, 8, 8]`; strings stay unquoted."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{as_hydra_takes(child)}" for key, child in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_hydra_takes, value))}]"
    return str(value)


def quoted_if_literal(value: object) -> object:
    """Return `value`, in quotes if it is a string that looks like a number, a boolean or null.

    For error messages: a string "3" where a number is expected would otherwise look valid.
    """
    return f"'{value}'" if isinstance(value, str) and is_scalar_literal(value) else value


def is_scalar_literal(text: str) -> bool:
    """Return whether Hydra's grammar parses the unquoted text as a number, true, false or null."""
    try:
        float(text)
    except ValueError:
        return text.lower() in ("true", "false", "null")
    return True


def first_line(error: Exception) -> str:
    """Return the first line of another library's error message, or the name of its class if it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def positive_integer(key: str, value: object) -> int:
    """Return `value`, an integer of at least 1.

    Raises:
        ConfigError: if `value` is anything else.
    """
    return integer(key, value, minimum=1)


def height_and_width(key: str, value: object) -> tuple[int, int]:
    """Return height and width of images: `value` is one integer of at least 1 for both, or a list of the two.

    Raises:
        ConfigError: if `value` is anything else.
    """
    if not isinstance(value, list | tuple):
        size = positive_integer(key, value)
        return size, size
    if len(value) != 2:
        raise ConfigError(key, list(value), "must be one number, or [height, width]")
    height, width = (positive_integer(f"{key}[{index}]", size) for index, size in enumerate(value))
    return height, width


def at_most(key: str, value: object) -> int | None:
    """Return `value`, an integer of at least 1, or None for no limit.

    Raises:
        ConfigError: if `value` is anything else.
    """
    return None if value is None else positive_integer(key, value)


def choice(key: str, value: object, options: Sequence[str]) -> str:
    """Return `value`, one of `options`.

    Raises:
        ConfigError: if `value` is not among the options; the message lists them.
    """
    if value not in options:
        raise ConfigError(key, value, f"must be one of {', '.join(options)}")
    return str(value)


def boolean(key: str, value: object) -> bool:
    """Return `value`, True or False.

    Raises:
        ConfigError: if `value` is anything else.
    """
    if not isinstance(value, bool):
        raise ConfigError(key, quoted_if_literal(value), "must be true or false")
    return value


def path(key: str, value: object) -> Path:
    """Return `value` as a path, with `~` expanded.

    Raises:
        ConfigError: if `value` is not a string, or is empty, or contains a null byte.
    """
    if not isinstance(value, str) or not value:
        raise ConfigError(
            key, value, f"must be a path; one that Hydra reads as a number or a list needs {QUOTING_HINT}"
        )
    if "\0" in value:
        raise ConfigError(key, repr(value), "must be a path without null bytes")
    return Path(os.path.expanduser(value))


def integer(key: str, value: object, *, minimum: int, maximum: int | None = None) -> int:
    """Return `value`, an integer of at least `minimum` and, if given, at most `maximum`.

    Raises:
        ConfigError: if `value` is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < minimum:
        correction = f"; write {int(value)}" if isinstance(value, float) and value.is_integer() else ""
        raise ConfigError(key, quoted_if_literal(value), f"must be a whole number of at least {minimum}{correction}")
    if maximum is not None and int(value) > maximum:
        raise ConfigError(key, value, f"must be at most {maximum}")
    return int(value)


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def number(key: str, value: object, *, minimum: float = -math.inf, positive: bool = False) -> float:
    """Return `value` as a float: a finite number of at least `minimum`, and above 0 if `positive`.

    Raises:
        ConfigError: if `value` is anything else.
    """
    bound = " above 0" if positive else f" of at least {minimum:g}" if minimum > -math.inf else ""
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or not _is_finite(value)
        or value < minimum
        or (positive and value <= 0)
    ):
        raise ConfigError(key, quoted_if_literal(value), f"must be a finite number{bound}")
    return float(value)

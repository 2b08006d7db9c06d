"""Mistakes that the person at the keyboard can put right: each is one line and exit status 2.

This module imports nothing of ours, so every other may import it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path

USAGE_ERROR = 2
"""The exit status of a command that a user can put right."""

QUOTES = "quotes within quotes, as in \"KEY='2024'\""
"""What makes a text of a word that Hydra's grammar reads as something else."""


class NelboError(Exception):
    """Anything that a user can put right. `train.py` prints it as one line and exits with status 2."""


class DataError(NelboError):
    """A data set that cannot be had or cannot be believed."""


class CheckpointError(NelboError):
    """A run directory or a checkpoint that cannot be loaded."""


class Diverged(NelboError):
    """Training met a number that is not finite, and stopped before it could spread."""


class DamagedCheckpoint(CheckpointError):
    """A checkpoint of which another one may take the place; not one that only cannot be read now."""


class Pruned(NelboError):
    """A search gave this run up: it is over, but nothing is wrong."""


class Stopped(BaseException):
    """A run or a sweep was told to stop, by this signal. No error: nothing may catch it and go on."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class ConfigError(NelboError):
    """A config value that cannot be used: names the key, the value and the hint.

    Constructors raise it with the bare name of their parameter; `nelbo.config.build` knows where in the config they
    stand and puts that in front, once.
    """

    def __init__(self, key: str, value: object, hint: str, *, located: bool = False) -> None:
        self.key, self.value, self.hint, self.located = key, value, hint, located
        super().__init__(f"{key}={as_hydra_takes(value)}: {hint}")

    def within(self, path: str) -> ConfigError:
        """The same error, told from where its object stands in the config."""
        if self.located or not path:
            return self
        return ConfigError(f"{path}.{self.key}", self.value, self.hint, located=True)


def as_hydra_takes(value: object) -> str:
    """A value of a config as it is typed: `null` and `true`, `{hours:2}`, `[3, 8, 8]`; text as it stands."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{as_hydra_takes(child)}" for key, child in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_hydra_takes, value))}]"
    return str(value)


def as_no_number(value: object) -> object:
    """A value that should have been a number or a truth, to be shown: quoted where it is text that looks like one."""
    return f"'{value}'" if isinstance(value, str) and is_number_or_word(value) else value


def is_number_or_word(text: str) -> bool:
    """Whether Hydra's grammar reads a text without quotes as a number, true, false or null."""
    try:
        float(text)
    except ValueError:
        return text.lower() in ("true", "false", "null")
    return True


def first_line(error: Exception) -> str:
    """What another library's error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def positive_integer(key: str, value: object) -> int:
    """`value`, if it is a whole number of at least 1.

    Raises:
        ConfigError: if it is not.
    """
    return integer(key, value, minimum=1)


def at_most(key: str, value: object) -> int | None:
    """`value`, if it is a whole number of at least 1, or None for no limit.

    Raises:
        ConfigError: if it is neither.
    """
    return None if value is None else positive_integer(key, value)


def choice(key: str, value: object, options: Sequence[str]) -> str:
    """`value`, if it is one of `options`.

    Raises:
        ConfigError: listing the options, if it is not.
    """
    if value not in options:
        raise ConfigError(key, value, f"must be one of {', '.join(options)}")
    return str(value)


def boolean(key: str, value: object) -> bool:
    """`value`, if it is true or false.

    Raises:
        ConfigError: if it is not.
    """
    if not isinstance(value, bool):
        raise ConfigError(key, as_no_number(value), "must be true or false")
    return value


def path(key: str, value: object) -> Path:
    """`value` as a path, the user's home spelt out.

    Raises:
        ConfigError: if it is not a text.
    """
    if not isinstance(value, str) or not value:
        raise ConfigError(key, value, f"must be a path; one that Hydra reads as a number or a list needs {QUOTES}")
    if "\0" in value:
        raise ConfigError(key, repr(value), "must be a path, which holds no null byte")
    return Path(os.path.expanduser(value))


def integer(key: str, value: object, *, minimum: int, maximum: int | None = None) -> int:
    """`value`, if it is a whole number of at least `minimum` and at most `maximum`.

    Raises:
        ConfigError: if it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < minimum:
        written = f", written {int(value)}" if isinstance(value, float) and value.is_integer() else ""
        raise ConfigError(key, as_no_number(value), f"must be a whole number of at least {minimum}{written}")
    if maximum is not None and int(value) > maximum:
        raise ConfigError(key, value, f"must be at most {maximum}")
    return int(value)


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def number(key: str, value: object, *, minimum: float = -math.inf, positive: bool = False) -> float:
    """`value`, if it is a finite number of at least `minimum`, or above 0 where `positive`.

    Raises:
        ConfigError: if it is not.
    """
    bound = " above 0" if positive else f" of at least {minimum:g}" if minimum > -math.inf else ""
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or not _is_finite(value)
        or value < minimum
        or (positive and value <= 0)
    ):
        raise ConfigError(key, as_no_number(value), f"must be a finite number{bound}")
    return float(value)

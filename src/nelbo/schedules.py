"""Schedules: functions from the training step to a number, without internal state, so that resuming is exact.

Every scheduled scalar of a config takes a number, or the name of a schedule with its options:
`objective.beta={linear:{steps:2000}}`. `schedule(math.inf)` is the final value, which is used to compare checkpoints.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nelbo.errors import ConfigError, number, positive_integer

__all__ = ["Constant", "Cosine", "Cyclical", "Linear", "Schedule", "as_schedule"]

Schedule = Callable[[float], float]


@dataclass(frozen=True)
class Constant:
    """The same value at every step."""

    value: float

    def __call__(self, step: float) -> float:
        """Return the value at `step`."""
        return self.value


@dataclass(frozen=True)
class Ramp:
    """The base of schedules from `start` at step 0 to `end` at step `steps`, which stay at `end` from then on.

    The value at a step t < steps is start + (end - start) * fraction(t / steps); subclasses define `fraction`.

    Raises:
        ConfigError: if `start` or `end` is not finite, or `steps` is not a positive whole number.
    """

    _: dataclasses.KW_ONLY
    steps: int
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        number("start", self.start)
        number("end", self.end)
        positive_integer("steps", self.steps)

    def fraction(self, progress: float) -> float:
        """Return the completed fraction of the way from `start` to `end`, for a progress in [0, 1)."""
        raise NotImplementedError

    def __call__(self, step: float) -> float:
        """Return the value at `step`."""
        if step >= self.steps:
            return float(self.end)
        return self.start + (self.end - self.start) * self.fraction(step / self.steps)


@dataclass(frozen=True)
class Linear(Ramp):
    """A straight line; as a weight on the KL, the warm-up of Bowman et al. 2016 and Sønderby et al. 2016.

    Example:
        >>> beta = Linear(steps=2000)
        >>> beta(0), beta(500), beta(2000), beta(math.inf)
        (0.0, 0.25, 1.0, 1.0)
    """

    def fraction(self, progress: float) -> float:
        """Return the progress itself."""
        return progress


@dataclass(frozen=True)
class Cosine(Ramp):
    """Half a period of a cosine: slow at both ends (Loshchilov & Hutter 2017, eq. 5)."""

    def fraction(self, progress: float) -> float:
        """Return (1 - cos(pi progress)) / 2."""
        return 0.5 * (1 - math.cos(math.pi * progress))


@dataclass(frozen=True)
class Cyclical(Ramp):
    """`cycles` ramps from `start` to `end`, each linear over its first `ramp`, then constant (Fu et al. 2019, eq. 6).

    Raises:
        ConfigError: also if `cycles` is not a positive whole number, or `ramp` is not in (0, 1].
    """

    cycles: int = 4
    ramp: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_integer("cycles", self.cycles)
        if number("ramp", self.ramp, positive=True) > 1:
            raise ConfigError("ramp", self.ramp, "must be at most 1, the length of a cycle")

    def fraction(self, progress: float) -> float:
        """Return the completed fraction of the ramp of the current cycle, at most 1."""
        return min(progress * self.cycles % 1 / self.ramp, 1.0)


SCHEDULES = {"linear": Linear, "cosine": Cosine, "cyclical": Cyclical}

EXAMPLE = "{linear:{steps:2000}}"


def as_schedule(key: str, value: object, *, minimum: float) -> Schedule:
    """Return the schedule that a config value describes.

    Args:
        key: the name of the scalar in the config, for error messages.
        value: a number such as 4, a mapping such as {"linear": {"steps": 2000}}, or a schedule.
        minimum: the least value allowed at the first step and at the end.

    Raises:
        ConfigError: if the value is none of these, or starts or ends below `minimum`.

    Example:
        >>> as_schedule("beta", 4, minimum=0)
        Constant(value=4.0)
        >>> as_schedule("beta", {"linear": {"steps": 2000, "end": 4}}, minimum=0)(1000)
        2.0
    """
    if isinstance(value, Mapping):
        schedule = _from_mapping(key, value)
    elif callable(value):
        schedule = value
    else:
        return Constant(_checked_number(key, value, minimum))
    for step in (0, math.inf):
        if not schedule(step) >= minimum:
            hint = f"is the first or last value of its schedule; must be at least {minimum:g}"
            raise ConfigError(key, schedule(step), hint)
    return schedule


def _checked_number(key: str, value: object, minimum: float) -> float:
    try:
        return number(key, value, minimum=minimum)
    except ConfigError as error:
        hint = f"{error.hint}, or a schedule such as {_example(minimum)}"
        raise ConfigError(key, error.value, hint) from None


def _example(minimum: float) -> str:
    """Return a schedule whose values are allowed; the default `start` is 0."""
    if minimum <= 0:
        return EXAMPLE
    end = max(0.1, minimum)
    return f"{{linear:{{steps:2000,start:{10 * end:g},end:{end:g}}}}}"


def _from_mapping(key: str, value: Mapping[str, object]) -> Schedule:
    """Return the schedule of a mapping {name: options}."""
    name = next(iter(value), "")
    options = value.get(name)
    if len(value) != 1 or name not in SCHEDULES or not isinstance(options, Mapping):
        names = ", ".join(SCHEDULES)
        hint = f"must be one schedule with its options, such as {EXAMPLE}; the schedules are {names}"
        raise ConfigError(key, dict(value), hint)
    schedule = SCHEDULES[name]
    fields = {field.name: field for field in dataclasses.fields(schedule)}
    for option in options:
        if option not in fields:
            hint = f"is not an option of {name}, which has: {', '.join(fields)}"
            raise ConfigError(f"{key}.{name}.{option}", options[option], hint)
    for option, field in fields.items():
        if field.default is dataclasses.MISSING and option not in options:
            hint = f"has no default; give a value, such as {{{name}:{{{option}:2000}}}}"
            raise ConfigError(f"{key}.{name}.{option}", "", hint)
    try:
        result: Schedule = schedule(**options)
    except ConfigError as error:
        raise ConfigError(f"{key}.{name}.{error.key}", error.value, error.hint) from None
    return result

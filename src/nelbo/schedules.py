"""Schedules: functions `step -> float`, without hidden counters, so that resuming is exact.

Wherever a config takes a scheduled scalar, it takes a number or the name of a schedule with its options:
`objective.beta={linear:{steps:2000}}`. `schedule(math.inf)` is the final value; checkpoints are compared at it.
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
        """The value at `step`."""
        return self.value


@dataclass(frozen=True)
class Ramp:
    """From `start` at step 0 to `end` at step `steps`, and `end` from then on; subclasses say along which line.

    Raises:
        ConfigError: if an end is not finite, or `steps` is not a positive whole number.
    """

    _: dataclasses.KW_ONLY
    steps: int
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        number("start", self.start)
        number("end", self.end)
        positive_integer("steps", self.steps)

    def share(self, progress: float) -> float:
        """How much of the way from `start` to `end` is done at a progress below 1."""
        raise NotImplementedError

    def __call__(self, step: float) -> float:
        """The value at `step`."""
        if step >= self.steps:
            return float(self.end)
        return self.start + (self.end - self.start) * self.share(step / self.steps)


@dataclass(frozen=True)
class Linear(Ramp):
    """A straight line. As a weight on the KL, the warm-up of Bowman et al. 2016 and Sønderby et al. 2016."""

    def share(self, progress: float) -> float:
        """The progress itself."""
        return progress


@dataclass(frozen=True)
class Cosine(Ramp):
    """Half a cosine: slow at both ends (Loshchilov & Hutter 2017, eq. 5)."""

    def share(self, progress: float) -> float:
        """(1 - cos(pi progress)) / 2."""
        return 0.5 * (1 - math.cos(math.pi * progress))


@dataclass(frozen=True)
class Cyclical(Ramp):
    """`cycles` times from `start` to `end`: a line over the first `ramp` of each, then flat (Fu et al. 2019, eq. 6).

    Raises:
        ConfigError: also if `cycles` is not a positive whole number, or `ramp` not above 0 and at most 1.
    """

    cycles: int = 4
    ramp: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_integer("cycles", self.cycles)
        if number("ramp", self.ramp, positive=True) > 1:
            raise ConfigError("ramp", self.ramp, "must be at most 1, the whole of a cycle")

    def share(self, progress: float) -> float:
        """The line within the cycle."""
        return min(progress * self.cycles % 1 / self.ramp, 1.0)


SCHEDULES = {"linear": Linear, "cosine": Cosine, "cyclical": Cyclical}

EXAMPLE = "{linear:{steps:2000}}"
ABOVE_ZERO = "{linear:{steps:2000,start:1,end:0.1}}"
"""What may not be 0 needs other ends than the defaults."""


def as_schedule(key: str, value: object, *, minimum: float) -> Schedule:
    """A scalar from the config: a number, the name of a schedule with its options, or a schedule as it is.

    Args:
        key: the scalar's name.
        value: such as 4, or {"linear": {"steps": 2000}}.
        minimum: what it may not go below.

    Raises:
        ConfigError: if it is none of them, or starts or ends below `minimum`.
    """
    if isinstance(value, Mapping):
        schedule = _named(key, value)
    elif callable(value):
        schedule = value
    else:
        return Constant(_number(key, value, minimum))
    for step in (0, math.inf):
        if not schedule(step) >= minimum:
            raise ConfigError(
                key, schedule(step), f"is where its schedule starts or ends; must be at least {minimum:g}"
            )
    return schedule


def _number(key: str, value: object, minimum: float) -> float:
    try:
        return number(key, value, minimum=minimum)
    except ConfigError as error:
        hint = f"{error.hint}, or a schedule such as {EXAMPLE if minimum <= 0 else ABOVE_ZERO}"
        raise ConfigError(key, error.value, hint) from None


def _named(key: str, value: Mapping[str, object]) -> Schedule:
    """The schedule that a mapping {name: options} names."""
    name = next(iter(value), "")
    options = value.get(name)
    if len(value) != 1 or name not in SCHEDULES or not isinstance(options, Mapping):
        names = ", ".join(SCHEDULES)
        hint = f"must be one schedule with its options, such as {EXAMPLE}; there are {names}"
        raise ConfigError(key, dict(value), hint)
    schedule = SCHEDULES[name]
    known = {field.name: field for field in dataclasses.fields(schedule)}
    for option in options:
        if option not in known:
            hint = f"is not an option of {name}, which has: {', '.join(known)}"
            raise ConfigError(f"{key}.{name}.{option}", options[option], hint)
    for option, field in known.items():
        if field.default is dataclasses.MISSING and option not in options:
            raise ConfigError(f"{key}.{name}.{option}", "", f"has no default; such as {{{name}:{{{option}:2000}}}}")
    try:
        made: Schedule = schedule(**options)
    except ConfigError as error:
        raise ConfigError(f"{key}.{name}.{error.key}", error.value, error.hint) from None
    return made

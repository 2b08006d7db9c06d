"""Schedules: functions `step -> float`, without hidden counters, so that resuming is exact.

`schedule(math.inf)` is the final value; checkpoints are compared at it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nelbo.errors import ConfigError, number, positive_integer

__all__ = ["Constant", "Linear", "Schedule", "as_schedule"]

Schedule = Callable[[float], float]


@dataclass(frozen=True)
class Constant:
    """The same value at every step."""

    value: float

    def __call__(self, step: float) -> float:
        """The value at `step`."""
        return self.value


@dataclass(frozen=True)
class Linear:
    """A straight line from `start` at step 0 to `end` at step `steps`, and `end` from then on.

    As a weight on the KL this is the warm-up of Bowman et al. 2016 and Sønderby et al. 2016.

    Raises:
        ConfigError: if a weight is negative or not finite, or `steps` is not a positive whole number.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        number("start", self.start, minimum=0)
        number("end", self.end, minimum=0)
        positive_integer("steps", self.steps)

    def __call__(self, step: float) -> float:
        """The value at `step`."""
        return self.start + (self.end - self.start) * min(step / self.steps, 1.0)


def as_schedule(key: str, value: object) -> Schedule:
    """A weight from the config: a number of at least 0, or a schedule as it is.

    Raises:
        ConfigError: if it is neither.
    """
    if isinstance(value, str) or not callable(value):
        try:
            return Constant(number(key, value, minimum=0))
        except ConfigError as error:
            mend = f"{error.mend}, or a schedule such as +schedule@objective.{key}=linear"
            raise ConfigError(key, value, mend) from None
    return value

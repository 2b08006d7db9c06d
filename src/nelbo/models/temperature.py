"""The temperature of each level of latents."""

from __future__ import annotations

from collections.abc import Sequence

from nelbo.errors import ConfigError, number


def levels_of(temperature: float | Sequence[float], levels: int) -> list[float]:
    """Return the temperature of each level.

    Args:
        temperature: one number for all levels, or one for each.
        levels: the number of levels.

    Raises:
        ConfigError: if there is another number of them, or one is negative.

    Example:
        >>> levels_of(0.7, 2), levels_of([1, 0.5], 2)
        ([0.7, 0.7], [1.0, 0.5])
    """
    if isinstance(temperature, int | float):
        return [number("temperature", temperature, minimum=0)] * levels
    factors = [number(f"temperature[{index}]", factor, minimum=0) for index, factor in enumerate(temperature)]
    if len(factors) != levels:
        raise ConfigError("temperature", list(temperature), f"must be one number, or one for each of {levels} levels")
    return factors

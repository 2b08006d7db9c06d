"""Levels of latents: which one is chosen, how levels below it follow, and decoding.

Shapes: K values of a unit, C H W image. Levels are numbered from the top, which is level 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nelbo.distributions import DiagonalNormal
from nelbo.errors import ConfigError, integer, number
from nelbo.models import Model
from nelbo.pictures.picture import Scene

MOST_NUMBERS = 5
"""Largest number of numbers of upper levels that are drawn unless they are given."""

PRIOR_SAMPLES = 2000
"""Samples by which a prior without closed-form quantiles is shown."""


def level_number(level: object) -> int:
    """Return `level`, the number of a level, if it is a whole number of at least 1.

    Raises:
        ConfigError: if it is anything else.
    """
    return integer("level", level, minimum=1)


def require_level(model: Model, level: int) -> None:
    """Raise an error if the model has no such level.

    Raises:
        ConfigError: if the model has no such level.
    """
    if level > (levels := len(model.events)):
        hint = "the model has one level of latents" if levels == 1 else f"the model has levels 1 (top) to {levels}"
        raise ConfigError("level", level, hint)


def require_several(scene: Scene, instead: str) -> None:
    """Raise an error if the model has one level of latents.

    Args:
        scene: the model.
        instead: what to draw instead.

    Raises:
        ConfigError: if it has one level.
    """
    if len(scene.model.events) == 1:
        raise ConfigError("run", scene.name, f"has one level of latents, and this picture needs two; draw {instead}")


def upper_numbers(upper: object) -> list[int] | None:
    """Return `upper`, numbers of upper levels, as a list, or None if it is None.

    Raises:
        ConfigError: if it is neither a whole number of at least 1, nor a list of different ones.
    """
    if upper is None:
        return None
    if not isinstance(upper, Sequence) or isinstance(upper, str):
        return [integer("upper", upper, minimum=1)]
    numbers = [integer(f"upper[{index}]", count, minimum=1) for index, count in enumerate(upper)]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ConfigError("upper", list(upper), "must be null, a number of levels, or different ones, such as [1,2]")
    return numbers


def chosen_numbers(upper: Sequence[int] | None, largest: int) -> list[int]:
    """Return numbers of upper levels: those given, or else up to `MOST_NUMBERS`, evenly spread from 1 to the largest.

    Raises:
        ConfigError: if a number is larger than the largest.

    Example:
        >>> chosen_numbers(None, 3), chosen_numbers(None, 13), chosen_numbers([2], 3)
        ([1, 2, 3], [1, 4, 7, 10, 13], [2])
    """
    if upper is None:
        steps = min(largest, MOST_NUMBERS) - 1
        return [1 + step * (largest - 1) // steps for step in range(steps + 1)] if steps else [1]
    if max(upper) > largest:
        raise ConfigError("upper", upper[0] if len(upper) == 1 else list(upper), f"must be at most {largest} here")
    return list(upper)


def temperatures(value: object) -> float | list[float]:
    """Return a temperature of p(z): one positive number, or a list of numbers of at least 0, one for each level.

    Raises:
        ConfigError: if it is anything else.
    """
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        return [number(f"temperature[{index}]", factor, minimum=0) for index, factor in enumerate(value)]
    return number("temperature", value, positive=True)


def describe_temperature(value: float | Sequence[float]) -> str:
    """Return a temperature for titles, such as ", temperature 0.7"; empty for 1.

    Example:
        >>> describe_temperature([1, 0.5])
        ', temperature 1, 0.5 by level'
        >>> describe_temperature(1.0)
        ''
    """
    if isinstance(value, int | float):
        return "" if value == 1 else f", temperature {value:g}"
    return f", temperature {', '.join(f'{factor:g}' for factor in value)} by level"


def describe_event(event: Sequence[int]) -> str:
    """Return the shape of a level's latents for titles.

    Example:
        >>> describe_event((16,)), describe_event((4, 7, 7))
        ('16 units', '4 channels of 7x7')
    """
    units, *rest = event
    if len(rest) == 2:
        return f"{units} channel{'s' * (units > 1)} of {rest[0]}x{rest[1]}"
    return f"{units} unit{'s' * (units > 1)}"


def describe_levels(first: int, last: int) -> str:
    """Return the name of a range of levels.

    Example:
        >>> describe_levels(1, 1), describe_levels(1, 2), describe_levels(2, 5)
        ('level 1', 'levels 1 and 2', 'levels 2 to 5')
    """
    if first == last:
        return f"level {first}"
    return f"levels {first} {'and' if last == first + 1 else 'to'} {last}"


def below_at_modes(model: Model, level: int = 1) -> str:
    """Return what titles say about the levels below a level: their modes are decoded; empty if there are none."""
    levels = len(model.events)
    if level == levels:
        return ""
    return f"; {describe_levels(level + 1, levels)} at the mode of p(z|above)"


def arrays_of(model: Model, zs: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return codes by the names that files give them: `z` of a single level, else `z1`, `z2`, ..., top first."""
    if len(model.events) == 1:
        return {"z": zs[0]}
    return {f"z{level}": z for level, z in enumerate(zs, start=1)}


def decode(model: Model, *above: Tensor, batch_size: int | None = None) -> Tensor:
    """Return means of p(x|z), (..., C, H, W), at codes of the upper levels and the modes of the levels below.

    Args:
        model: the model.
        above: z of one or several levels, top first, (..., *event) each.
        batch_size: images that are decoded at once; None for all.
    """
    leading = above[0].shape[: above[0].ndim - len(model.events[0])]
    flat = [z.flatten(0, len(leading) - 1) for z in above]
    parts = zip(*(z.split(batch_size or len(z)) for z in flat), strict=True)
    x = torch.cat([model.decode(*model.sample(len(part[0]), 0, above=part)).mean for part in parts])
    return x.reshape(*leading, *x.shape[1:])


def spread(model: Model, above: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of p(z|above) of the next level, (*event) each.

    They are exact for Gaussians, and those of samples for any other prior.

    Args:
        model: the model.
        above: z of the levels above it, (*event) each; empty for the top level.
    """
    if not above:
        prior = model.top_prior()
        if isinstance(prior, DiagonalNormal):
            return prior.loc, prior.scale
        samples: Tensor = prior.sample(torch.Size((PRIOR_SAMPLES,)))
        return samples.mean(dim=0), samples.std(dim=0)
    top = above[0][None, None]
    noise = torch.zeros(1, 1, model.noise_size, device=top.device, dtype=top.dtype)
    place = 0
    # z = mean + deviation * noise at each level below the top, so zero and one as noise give both.
    for level in range(1, len(above) + 1):
        size = math.prod(model.events[level])
        here = slice(place, place + size)
        mean = model.unfold(top, noise)[level][0, 0]
        noise[..., here] = 1
        deviation = model.unfold(top, noise)[level][0, 0] - mean
        if level < len(above):
            noise[..., here] = ((above[level] - mean) / deviation).flatten()
        place += size
    return mean, deviation

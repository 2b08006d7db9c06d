"""Images that a model generates.

Shapes: N images, B batch, C H W image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nelbo.errors import ConfigError, number
from nelbo.evaluation.measure import Scalar, Subject

Temperature = float | tuple[float, ...]
"""Temperature of p(z): one for all levels of latents, or one for each, top first."""

PIXELS = ("sample", "mean")
"""Options for generated pixels: a sample of p(x|z), or its mean."""


def checked_temperature(value: object) -> Temperature:
    """Return the value of an option `temperature`.

    Raises:
        ConfigError: if it is neither a positive number nor a list of positive numbers.

    Example:
        >>> checked_temperature(0.7), checked_temperature([1, 0.5])
        (0.7, (1.0, 0.5))
    """
    if not isinstance(value, list | tuple):
        return number("temperature", value, positive=True)
    if not value:
        raise ConfigError("temperature", value, "must be one number, or a list of one for each level of latents")
    return tuple(number(f"temperature[{level}]", each, positive=True) for level, each in enumerate(value))


def temperature_scalar(temperature: Temperature) -> Scalar:
    """Return a temperature as a value of `Findings`: a number, or the numbers of the levels as text."""
    return " ".join(f"{each:g}" for each in temperature) if isinstance(temperature, tuple) else temperature


@torch.no_grad()
def generate(
    subject: Subject,
    task: str,
    count: int,
    function: Callable[[Tensor], Tensor],
    *,
    temperature: Temperature,
    pixels: str,
) -> Tensor:
    """Apply a function to `count` images that the model generates, and return its values, (N, ...), on the CPU.

    The images are samples of p(x|z) with z ~ p(z), that is of the model's own p(x), or the means of p(x|z), which lack
    the noise of the likelihood. Pixels are clamped to [0, 1], unless the
    data are real-valued. Processes share the work as in `Subject.map`.

    Args:
        subject: provides the model.
        task: name of the task, for progress reports.
        count: N.
        function: maps images (B, C, H, W) in [0, 1] on the model's device to values (B, ...).
        temperature: temperature of p(z), of all levels or of each; 1 for p(z) itself.
        pixels: one of `PIXELS`.
    """
    sizes = [min(subject.batch_size, count - start) for start in range(0, count, subject.batch_size)]
    parts = []
    for batch in range(subject.processes.rank, len(sizes), subject.processes.count):
        with subject.random_state("generated", batch):
            px = subject.model.generate(sizes[batch], temperature)
            x = px.mean if pixels == "mean" else px.sample()
        parts.append(function(x.clamp(0, 1) if subject.model.value_range is None else x).cpu())
        subject.watch(task, min(batch + subject.processes.count, len(sizes)), len(sizes))
    return torch.cat(subject.processes.join(parts, len(sizes)))

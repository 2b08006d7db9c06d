"""Images that a model generates.

Shapes: N images, B batch, C H W image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nelbo.evaluation.measure import Subject

PIXELS = ("sample", "mean")
"""Options for generated pixels: a sample of p(x|z), or its mean."""


@torch.no_grad()
def generate(
    subject: Subject, task: str, count: int, function: Callable[[Tensor], Tensor], *, temperature: float, pixels: str
) -> Tensor:
    """Apply a function to `count` images that the model generates, and return its values, (N, ...), on the CPU.

    The images are samples of p(x|z) with z ~ p(z), that is of the model's own p(x), or the means of p(x|z), which lack
    the noise of the likelihood. Pixels are clamped to [0, 1]. Processes share the work as in `Subject.map`.

    Args:
        subject: provides the model.
        task: name of the task, for progress reports.
        count: N.
        function: maps images (B, C, H, W) in [0, 1] on the model's device to values (B, ...).
        temperature: temperature of p(z); 1 for p(z) itself.
        pixels: one of `PIXELS`.
    """
    sizes = [min(subject.batch_size, count - start) for start in range(0, count, subject.batch_size)]
    parts = []
    for number in range(subject.processes.rank, len(sizes), subject.processes.count):
        with subject.random_state("generated", number):
            px = subject.model.generate(sizes[number], temperature)
            x = px.mean if pixels == "mean" else px.sample()
        parts.append(function(x.clamp(0, 1)).cpu())
        subject.watch(task, min(number + subject.processes.count, len(sizes)), len(sizes))
    return torch.cat(subject.processes.join(parts, len(sizes)))

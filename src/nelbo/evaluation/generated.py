"""Images that a model makes.

Shapes: N images, B batch, C H W image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nelbo.evaluation.measure import Subject

PIXELS = ("sample", "mean")
"""What is taken of p(x|z): a sample of it, or its mean."""


@torch.no_grad()
def generate(
    subject: Subject, task: str, count: int, function: Callable[[Tensor], Tensor], *, temperature: float, pixels: str
) -> Tensor:
    """`function` of `count` images that the model makes, (N, ...), on the CPU.

    z ~ p(z), then a sample of p(x|z), so that the images are draws of the model's own p(x), or its mean, a picture
    without the noise that the likelihood adds. What a density leaves outside of [0, 1] is cut off. Processes share the
    work as in `Subject.map`.

    Args:
        subject: whose model.
        task: for people.
        count: N.
        function: images (B, C, H, W) in [0, 1] on the model's device to values (B, ...).
        temperature: of p(z); 1 is the model itself.
        pixels: one of `PIXELS`.
    """
    sizes = [min(subject.batch_size, count - start) for start in range(0, count, subject.batch_size)]
    found = []
    for number in range(subject.processes.rank, len(sizes), subject.processes.count):
        with subject.random_state("generated", number):
            px = subject.model.generate(sizes[number], temperature)
            x = px.mean if pixels == "mean" else px.sample()
        found.append(function(x.clamp(0, 1)).cpu())
        subject.watch(task, min(number + subject.processes.count, len(sizes)), len(sizes))
    return torch.cat(subject.processes.join(found, len(sizes)))

"""Codes against the q(z|x) of all images, which are made again, a block at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.evaluation.measure import Subject, spread

BLOCK = 1000
"""Processes take turns at about so many q(z|x), whatever the batch size: what they exchange grows with N^2 / BLOCK."""


def over_images(subject: Subject, task: str, images: int, sums: Callable[[Distribution, int], Tensor]) -> Tensor:
    """The logarithm of a sum over the q(z|x) of `images` images.

    Args:
        subject: the model and its data.
        task: for people.
        images: N, evenly spread over the split.
        sums: of the q(z|x) of B images, and the number of the first, to the logarithm of the sum over these.
    """
    positions = spread(len(subject.images), images)
    size = max(1, BLOCK // subject.batch_size) * subject.batch_size
    starts = range(0, images, size)
    mine = []
    for number in range(subject.processes.rank, len(starts), subject.processes.count):
        parts = []
        for batch in torch.arange(images)[starts[number] : starts[number] + size].split(subject.batch_size):
            q = subject.model.encode(subject.images[positions[batch]].to(subject.device))
            parts.append(sums(q, int(batch[0])))
        mine.append(torch.stack(parts).logsumexp(dim=0).cpu())
        subject.watch(task, min(number + subject.processes.count, len(starts)), len(starts))
    return torch.stack(subject.processes.join(mine, len(starts))).logsumexp(dim=0)

"""Sums over the q(z|x) of all images, which are recomputed one block at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.evaluation.measure import Subject
from nelbo.views.images import evenly_spaced

BLOCK = 1000
"""Approximate number of q(z|x) in a block. Processes take turns at blocks and exchange data in N^2 / BLOCK."""


def log_sum_over_images(
    subject: Subject, task: str, images: int, log_sums: Callable[[Distribution, int], Tensor]
) -> Tensor:
    """Return the logarithm of a sum over the q(z|x) of N images.

    Args:
        subject: the model and its data.
        task: name of the task, for progress reports.
        images: N, evenly spread over the split.
        log_sums: maps the q(z|x) of B images, and the number of the first of them, to the logarithm of the sum over B.
    """
    positions = evenly_spaced(len(subject.images), images)
    size = max(1, BLOCK // subject.batch_size) * subject.batch_size
    starts = range(0, images, size)
    mine = []
    for number in range(subject.processes.rank, len(starts), subject.processes.count):
        parts = []
        for batch in torch.arange(images)[starts[number] : starts[number] + size].split(subject.batch_size):
            q = subject.of_batch(subject.images, positions[batch], subject.model.encode)
            parts.append(log_sums(q, int(batch[0])))
        mine.append(torch.stack(parts).logsumexp(dim=0).cpu())
        subject.watch(task, min(number + subject.processes.count, len(starts)), len(starts))
    return torch.stack(subject.processes.join(mine, len(starts))).logsumexp(dim=0)

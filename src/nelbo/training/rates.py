"""Learning-rate schedules over the whole of training, one step at a time."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


def constant(optimizer: Optimizer) -> LRScheduler:
    """The same learning rate throughout."""
    return LambdaLR(optimizer, lambda step: 1.0)


def cosine(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Half a cosine from the learning rate down to 0 at the last step (Loshchilov & Hutter 2017, without restarts).

    A function of the step and not of the rate before it, so that a run that goes on for more epochs than it began with
    follows the cosine over all of them from there on.
    """
    return LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / total_steps)) / 2)

"""Learning-rate schedules over the whole of training, as functions of the optimiser step."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


def constant(optimizer: Optimizer) -> LRScheduler:
    """Return a scheduler that leaves the learning rate as it is."""
    return LambdaLR(optimizer, lambda step: 1.0)


def cosine(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Return a scheduler along half a cosine, from the learning rate to 0 at the last step.

    The factor at step t is (1 + cos(pi t / T)) / 2 with T = `total_steps`: equation 5 of Loshchilov & Hutter (2017),
    https://arxiv.org/abs/1608.03983, with a minimum of 0 and without restarts. It does not depend on the previous rate,
    so a run that is resumed with more epochs follows the cosine over all of them from there on.

    Args:
        optimizer: the optimiser whose rate is scheduled.
        total_steps: optimiser steps of the whole of training.

    Example:
        >>> import torch
        >>> scheduler = cosine(torch.optim.SGD([torch.zeros(1)], lr=2.0), total_steps=2)
        >>> [rate * 2.0 for rate in map(scheduler.lr_lambdas[0], range(3))]
        [2.0, 1.0, 0.0]
    """
    return LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / total_steps)) / 2)

"""Learning-rate schedules over the whole of training, one step at a time."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler


def constant(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """The same learning rate throughout."""
    return ConstantLR(optimizer, factor=1.0, total_iters=0)


def cosine(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Half a cosine from the learning rate down to 0 at the last step (Loshchilov & Hutter 2017, without restarts)."""
    return CosineAnnealingLR(optimizer, T_max=total_steps)

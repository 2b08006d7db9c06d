"""A linear rise of the learning rate before any schedule."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


class WarmUp(LRScheduler):
    """A schedule that begins with a linear rise of the learning rate, followed by another schedule.

    In step t = 0, ..., `steps` - 1 the rate is (t + 1) / `steps` times that with which the other schedule begins. Step
    `steps` is the first one of the other schedule, which may be of any kind: torch's `SequentialLR` takes neither
    ReduceLROnPlateau nor those that set the rate without regard to the current one, such as OneCycleLR.

    Args:
        scheduler: the other schedule, which has made no step.
        steps: the number of steps of the rise, at least 1.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> scheduler = WarmUp(torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5), steps=4)
        >>> rates = []
        >>> for _ in range(7):
        ...     rates.append(optimizer.param_groups[0]["lr"])
        ...     optimizer.step()
        ...     scheduler.step()
        >>> rates
        [0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.25]
    """

    def __init__(self, scheduler: LRScheduler, steps: int) -> None:  # as SequentialLR, without that of the base class
        self.optimizer: Optimizer = scheduler.optimizer
        self.scheduler, self.steps, self.last_epoch = scheduler, steps, 0
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self._set_rates()

    @property
    def is_rising(self) -> bool:
        """Whether the next step of the optimiser is one of the rise."""
        return self.last_epoch < self.steps

    def step(self, epoch: int | None = None) -> None:
        """Set the rates of the next step; ReduceLROnPlateau is to be stepped after validations, by itself."""
        self.last_epoch += 1
        if self.last_epoch <= self.steps:
            self._set_rates()
        elif not isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step()

    def get_last_lr(self) -> list[float]:  # type: ignore[override]
        """Return the current rate of each parameter group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def _set_rates(self) -> None:
        share = min(1.0, (self.last_epoch + 1) / self.steps)
        for group, rate in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = rate * share


def plateau_of(scheduler: LRScheduler) -> ReduceLROnPlateau | None:
    """Return the ReduceLROnPlateau that a schedule is, or is after its rise; None for others, and during the rise."""
    if isinstance(scheduler, WarmUp) and not scheduler.is_rising:
        scheduler = scheduler.scheduler
    return scheduler if isinstance(scheduler, ReduceLROnPlateau) else None

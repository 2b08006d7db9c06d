"""The base class of heads, with scalars that may follow a schedule."""

from __future__ import annotations

import torch
from torch import nn

from nelbo.schedules import Constant, Schedule, as_schedule


class Scheduled(nn.Module):
    """A module whose scalars (a sigma, a temperature) are numbers or schedules, each stored in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.schedules: dict[str, Schedule] = {}
        self.given_buffers: list[str] = []
        """Names of buffers whose values come from the config, not from training."""

    def register_scalar(self, name: str, value: object, *, minimum: float) -> None:
        """Create the buffer `name` with the value of the scalar at step 0.

        Args:
            name: name of the scalar and of its buffer.
            value: a number, or a schedule as in `as_schedule`.
            minimum: the least value allowed.

        Raises:
            ConfigError: if `value` is neither, or starts or ends below `minimum`.
        """
        schedule = as_schedule(name, value, minimum=minimum)
        self.register_buffer(name, torch.tensor(float(schedule(0))))
        self.given_buffers.append(name)
        if not isinstance(schedule, Constant):
            self.schedules[name] = schedule

    def advance(self, step: float) -> dict[str, float]:
        """Set the scheduled scalars to their values at a training step.

        Args:
            step: the step; `math.inf` gives the final values.

        Returns:
            The values by name.
        """
        values = {name: schedule(step) for name, schedule in self.schedules.items()}
        for name, value in values.items():
            # Assign a new tensor, so that existing distributions keep the value they were constructed with.
            setattr(self, name, torch.full_like(getattr(self, name), value))
        return values

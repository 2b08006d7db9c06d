"""Named scalars of heads that may follow a schedule."""

from __future__ import annotations

import torch
from torch import nn

from nelbo.schedules import Constant, Schedule, as_schedule


class Scheduled(nn.Module):
    """A head whose scalars (a sigma, a temperature) are numbers or schedules; each lives in a buffer of its name."""

    def __init__(self) -> None:
        super().__init__()
        self.schedules: dict[str, Schedule] = {}
        self.given_buffers: list[str] = []
        """Names of the scalars: they say what the config does, and nothing that was learned."""

    def register_scalar(self, name: str, value: object, *, minimum: float) -> None:
        """Make the buffer `name` from a config's number or schedule; it starts at step 0.

        Raises:
            ConfigError: if it is neither, or goes below `minimum`.
        """
        schedule = as_schedule(name, value, minimum=minimum)
        self.register_buffer(name, torch.tensor(float(schedule(0))))
        self.given_buffers.append(name)
        if not isinstance(schedule, Constant):
            self.schedules[name] = schedule

    def advance(self, step: float) -> dict[str, float]:
        """Set what is scheduled to its value at `step`, and say it; `math.inf` asks for the final values."""
        values = {name: schedule(step) for name, schedule in self.schedules.items()}
        for name, value in values.items():
            # A new tensor: distributions made earlier keep the value that they were made with.
            setattr(self, name, torch.full_like(getattr(self, name), value))
        return values

"""What every objective is."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from nelbo.errors import positive_integer
from nelbo.trace import Trace


class Loss(NamedTuple):
    """What is minimised, and the terms to look at.

    Args:
        total: scalar, in nats per example.
        terms: scalars by name; tensors in nats per example, floats for weights.
    """

    total: Tensor
    terms: dict[str, Tensor | float]


class Objective(nn.Module):
    """Called with a trace and the optimiser's step; sees no model. It may own parameters, and is trained with it.

    Args:
        num_samples: S, the samples of q(z|x) that the trace must hold.

    Raises:
        ConfigError: if `num_samples` is not a positive whole number.
    """

    def __init__(self, num_samples: int) -> None:
        super().__init__()
        self.num_samples = positive_integer("num_samples", num_samples)

    def forward(self, trace: Trace, step: float) -> Loss:
        """The loss at `step`; `math.inf` asks for schedules at their final value."""
        raise NotImplementedError

    def check(self, trace: Trace) -> None:
        """Refuse what has no meaning, when the run is built.

        Raises:
            ConfigError: naming the two that do not go together.
        """

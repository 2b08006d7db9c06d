"""What every metric is."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from nelbo.trace import Trace


class TraceMetric(Metric):
    """A `torchmetrics.Metric` whose `update` takes a Trace; states are sums or moments, which add up across processes.

    Sums are float32, as some devices have no float64: over 60,000 examples that is right to seven digits.
    """

    full_state_update = False

    def add_sum(self, name: str, shape: tuple[int, ...] = ()) -> None:
        """A state that starts at zero and is added up."""
        self.add_state(name, torch.zeros(shape), dist_reduce_fx="sum")

    @staticmethod
    def applies(trace: Trace) -> bool:
        """Whether the metric has a meaning for such traces; where it has none it is left out, not written as zero."""
        return True

    def update(self, trace: Trace) -> None:
        """Count the examples of a trace."""
        raise NotImplementedError

    def compute(self) -> Tensor:
        """The value over all examples."""
        raise NotImplementedError

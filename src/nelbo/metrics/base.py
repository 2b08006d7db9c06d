"""The base class of all metrics."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from nelbo.trace import Trace


class TraceMetric(Metric):
    """A `torchmetrics.Metric` whose `update` takes a Trace.

    States are sums or moments, which can be combined across processes. Sums are float32, because some devices lack
    float64; over 60,000 examples they are correct to seven digits.
    """

    full_state_update = False

    def add_sum(self, name: str, shape: tuple[int, ...] = ()) -> None:
        """Add a state that starts at zero and is summed across processes."""
        self.add_state(name, torch.zeros(shape), dist_reduce_fx="sum")

    @staticmethod
    def applies(trace: Trace) -> bool:
        """Return whether the metric is defined for traces like `trace`; if not, it is omitted from the results."""
        return True

    def update(self, trace: Trace) -> None:
        """Accumulate the examples of a trace."""
        raise NotImplementedError

    def compute(self) -> Tensor:
        """Return the value over all examples."""
        raise NotImplementedError

"""Where float32 is not enough."""

from __future__ import annotations

from torch import Tensor


def finest(value: Tensor) -> Tensor:
    """`value` in float64, where its device has that: Apple's MPS has not."""
    return value if value.device.type == "mps" else value.double()

"""What devices differ in: whether reading a value makes the processor wait, and how it can be read later.

Functions here are called through this module (`devices.reads_freely(device)`), so that tests can treat the CPU like
another device.
"""

from __future__ import annotations

import torch
from torch import Tensor

PINNED = ("cuda", "xpu")
"""Devices that copy to pinned memory while the processor goes on."""


def reads_freely(device: torch.device) -> bool:
    """Return whether values of tensors can be read at no cost, as on the CPU.

    Another device computes behind the processor, which reads a value only after all earlier work is done, and gives the
    device no new work meanwhile. A training step therefore reads nothing there.
    """
    return device.type == "cpu"


class HostCopy:
    """A copy of a few numbers of a device, which is made while the processor goes on.

    Only devices of `PINNED` do so; another one has to finish all of its work when the numbers are read.

    Args:
        size: how many numbers.
        device: the device.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self._event = torch.Event(device) if device.type in PINNED else None
        self._memory = torch.zeros(size, dtype=torch.float64, pin_memory=self._event is not None)
        self._numbers = self._memory.numpy()  # reading it is no operation of torch
        self._values: Tensor | None = None

    def copy(self, values: Tensor) -> None:
        """Start to copy numbers, (size,); the last ones must have been read."""
        if self._event is None:
            self._values = values
            return
        self._memory.copy_(values, non_blocking=True)
        self._event.record()

    def read(self) -> list[float]:
        """Return the numbers, when the device has computed them; work that it was given later need not be done."""
        if self._event is not None:
            self._event.synchronize()
        elif self._values is not None:
            self._memory.copy_(self._values)
        numbers: list[float] = self._numbers.tolist()
        return numbers

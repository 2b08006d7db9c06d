"""What the processes of a run ask one another for: to stop, and to write a checkpoint."""

from __future__ import annotations

import torch
from torch import distributed

from nelbo.numerics import devices


class Requests:
    """Agreement of processes that train together on a signal to stop at and on whether a checkpoint is due.

    All processes must call it in the same places. On the CPU they agree at once. On another device the answer to a call
    is that to the call before, which the device has found by then: no step waits for the device, and all processes
    still stop at the same step, one later. A process therefore has to repeat what it asks for until it is granted.

    Args:
        device: the device that communicates.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copy = devices.HostCopy(2, device)
        self._asked = False

    def exchange(self, signum: int, due: bool, *, at_once: bool = False) -> tuple[int, bool]:
        """Return the largest signal of all processes, 0 for none, and whether a checkpoint is due in one of them.

        Args:
            signum: the signal that this process has received, or 0.
            due: whether this process asks for a checkpoint.
            at_once: whether to wait for the answer to this call on other devices than the CPU too.
        """
        asked = torch.tensor((signum, due), dtype=torch.float32, pin_memory=self._device.type in devices.PINNED)
        asked = asked.to(self._device, non_blocking=True)
        waits = at_once or devices.reads_freely(self._device)
        answer = self._copy.read() if self._asked and not waits else [0, 0]
        distributed.all_reduce(asked, op=distributed.ReduceOp.MAX)
        self._copy.copy(asked)
        if waits:
            answer = self._copy.read()
        self._asked = not waits
        return int(answer[0]), bool(answer[1])

    def forget(self) -> None:
        """Discard the answer to the last call; to be called by all processes, once what it asked for is done."""
        self._asked = False

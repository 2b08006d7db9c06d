"""CPU cores and GPUs of this machine, which cells share."""

from __future__ import annotations

import multiprocessing
import os
import re
from multiprocessing.connection import Connection

FORK = multiprocessing.get_context("fork")


def visible_gpus() -> list[str]:
    """Return a value of CUDA_VISIBLE_DEVICES for each GPU that is visible.

    Without this variable the GPUs are counted in another process, because a process that has started CUDA cannot fork
    processes that use it.
    """
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return listed_gpus(os.environ["CUDA_VISIBLE_DEVICES"])
    receiver, sender = FORK.Pipe(duplex=False)
    counter = FORK.Process(target=_count_gpus, args=(sender,))
    counter.start()
    counter.join()
    return [str(index) for index in range(receiver.recv() if receiver.poll() else 0)]


def listed_gpus(value: str) -> list[str]:
    """Return the GPUs that CUDA sees for a value of CUDA_VISIBLE_DEVICES.

    As CUDA does, it ignores everything from the first invalid entry on, and all GPUs if one is listed twice.

    >>> listed_gpus("0,2"), listed_gpus("0,-1,1"), listed_gpus("0,0")
    (['0', '2'], ['0'], [])
    """
    gpus: list[str] = []
    for name in map(str.strip, value.split(",")):
        if not re.match(r"\d|GPU-|MIG-", name):
            break
        if name in gpus:
            return []
        gpus.append(name)
    return gpus


def _count_gpus(sender: Connection) -> None:
    """Send the number of GPUs; runs in a process of its own."""
    import torch

    sender.send(torch.cuda.device_count())

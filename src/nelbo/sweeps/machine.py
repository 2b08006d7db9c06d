"""What this machine has for cells to share."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection

FORK = multiprocessing.get_context("fork")


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may be set to, one GPU each; counted elsewhere: CUDA stays clean here."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    receiver, sender = FORK.Pipe(duplex=False)
    counter = FORK.Process(target=_count_gpus, args=(sender,))
    counter.start()
    counter.join()
    return [str(index) for index in range(receiver.recv() if receiver.poll() else 0)]


def _count_gpus(sender: Connection) -> None:
    import torch

    sender.send(torch.cuda.device_count())

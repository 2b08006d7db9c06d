"""What this machine has for cells to share."""

from __future__ import annotations

import multiprocessing
import os
import re
from multiprocessing.connection import Connection

FORK = multiprocessing.get_context("fork")


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may be set to, one GPU each; counted elsewhere: CUDA stays clean here."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return listed_gpus(os.environ["CUDA_VISIBLE_DEVICES"])
    receiver, sender = FORK.Pipe(duplex=False)
    counter = FORK.Process(target=_count_gpus, args=(sender,))
    counter.start()
    counter.join()
    return [str(index) for index in range(receiver.recv() if receiver.poll() else 0)]


def listed_gpus(listed: str) -> list[str]:
    """The GPUs that CUDA sees for a value of CUDA_VISIBLE_DEVICES: those before the first that is none, such as -1."""
    gpus: list[str] = []
    for name in map(str.strip, listed.split(",")):
        if not re.match(r"\d|GPU-|MIG-", name):
            break
        if name in gpus:  # CUDA then shows none at all
            return []
        gpus.append(name)
    return gpus


def _count_gpus(sender: Connection) -> None:
    import torch

    sender.send(torch.cuda.device_count())

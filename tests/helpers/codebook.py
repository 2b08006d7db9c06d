"""A posterior with a codebook, and an update of the codebook by several processes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from nelbo.heads import VectorQuantizedPosterior, compat
from nelbo.numerics import devices

FEATURES, DIMENSION, CLASSES = (4, 3, 2), 5, 6


def make_head(decay: float = 0.9, features: tuple[int, ...] = FEATURES) -> VectorQuantizedPosterior:
    """Return a posterior with a small codebook."""
    return VectorQuantizedPosterior(features, DIMENSION, classes=CLASSES, decay=decay, dead_below=0.1)


def codebook(head: VectorQuantizedPosterior) -> Tensor:
    """Return a copy of the codebook."""
    return head.quantizer.codebook.clone()


def one_step(processes: int, rank: int, folder: str, place: str = "library") -> None:
    """Update the codebook with this process's part of a batch twice, and save the entries after each update.

    Args:
        processes: number of processes.
        rank: number of this process.
        folder: where the processes meet and save.
        place: "device" if dead entries are replaced as on a device whose values are not read.
    """
    if place == "device":
        devices.reads_freely = lambda device: False
    address = f"file://{folder}/meeting"
    torch.distributed.init_process_group("gloo", init_method=address, world_size=processes, rank=rank)
    torch.manual_seed(0)
    head = make_head()
    head.quantizer.codebook.normal_()
    state = compat.codebook(head.quantizer)
    state.cluster_size.fill_(10.0)
    state.embed_avg.copy_(10 * state.embed)
    features = torch.randn(40, *FEATURES)
    torch.manual_seed(rank)  # processes have different random numbers
    head(features[rank::processes])
    after_first = codebook(head)
    state.cluster_size[:, :3] = 0.0  # dead entries, replaced by vectors of any process
    head(features[rank::processes])
    torch.save([after_first, codebook(head)], f"{folder}/{processes}-{rank}.pt")
    torch.distributed.destroy_process_group()
    threads = {file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")}  # empty except on Linux
    assert not [name for name in threads if "gloo" in name]  # a remaining process group would sometimes abort the exit

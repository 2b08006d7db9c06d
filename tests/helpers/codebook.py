"""A posterior with a codebook, and an update of it by several processes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from nelbo.heads import VectorQuantizedPosterior

FEATURES, DIMENSION, CLASSES = (4, 3, 2), 5, 6


def make_head(decay: float = 0.9, features: tuple[int, ...] = FEATURES) -> VectorQuantizedPosterior:
    return VectorQuantizedPosterior(features, DIMENSION, classes=CLASSES, decay=decay, dead_below=0.1)


def codebook(head: VectorQuantizedPosterior) -> Tensor:
    return head.quantizer.codebook.clone()


def one_step(processes: int, rank: int, folder: str) -> None:
    """An update of the codebook by this process's share of a batch, and what it came to."""
    address = f"file://{folder}/meeting"
    torch.distributed.init_process_group("gloo", init_method=address, world_size=processes, rank=rank)
    torch.manual_seed(0)
    head = make_head()
    head.quantizer.codebook.normal_()
    head.quantizer._codebook.cluster_size.fill_(10.0)
    head.quantizer._codebook.embed_avg.copy_(10 * head.quantizer._codebook.embed)
    features = torch.randn(40, *FEATURES)
    torch.manual_seed(rank)  # as processes differ in their random numbers
    head(features[rank::processes])
    first = codebook(head)
    head.quantizer._codebook.cluster_size[:, :3] = 0.0  # dead: moved to a vector of any of the processes
    head(features[rank::processes])
    torch.save([first, codebook(head)], f"{folder}/{processes}-{rank}.pt")
    torch.distributed.destroy_process_group()
    threads = {file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")}  # none but on Linux
    assert not [name for name in threads if "gloo" in name]  # nothing holds the group, or exits would abort at times

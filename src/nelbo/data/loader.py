"""The order of batches, which depends on the seed and the epoch alone, and the DataLoader that fetches them.

Shapes: B batch.
"""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from nelbo.data.arrays import RawBatch


class Batches(Sampler[Tensor]):
    """Sampler of batches of indices (B,) that visits every example exactly once per epoch, over all processes.

    The order depends on (seed, epoch). The batches of all processes are obtained by splitting the batches that one
    process would have with `world_size` times the batch size; the shares of a batch differ by at most one example.

    Args:
        num_examples: number of examples.
        batch_size: B; the last batches may be smaller.
        shuffle: whether the order is random and different in each epoch; if not, it is the order of the data set.
        seed: seed of the order.
        rank: number of this process.
        world_size: number of processes.
        epoch: the first epoch.
        start: number of batches to skip in the first epoch, because a resumed run has already used them.

    Example:
        >>> [batch.tolist() for batch in Batches(5, 2, shuffle=False)]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        epoch: int = 0,
        start: int = 0,
    ) -> None:
        self.num_examples, self.batch_size, self.shuffle, self.seed = num_examples, batch_size, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.epoch, self._first = epoch, (epoch, start)

    @property
    def sampler(self) -> Batches:
        """The object itself, because Lightning looks for `set_epoch` there."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the current epoch; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.num_examples // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[Tensor]:
        epoch, start = self._first
        return iter(self.batches()[start if self.epoch == epoch else 0 :])

    def batches(self) -> list[Tensor]:
        """Return all batches of the current epoch for this process."""
        return [batch[self.rank :: self.world_size] for batch in self.global_batches()]

    def global_batches(self) -> list[Tensor]:
        """Return all batches of the current epoch, each with the shares of all processes."""
        if self.shuffle:
            (state,) = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)
            order = torch.randperm(self.num_examples, generator=torch.Generator().manual_seed(int(state)))
        else:
            order = torch.arange(self.num_examples)
        batches = list(order.split(self.batch_size * self.world_size))
        if len(batches) > 1 and len(batches[-1]) < self.world_size:  # every process needs at least one example
            batches[-2:] = torch.cat(batches[-2:]).tensor_split(2)
        return batches


class ResumableLoader(DataLoader[RawBatch]):
    """DataLoader with the methods by which Lightning recognises a loader that can resume within an epoch.

    It needs no state, because `Batches` starts at the batch where the run stopped.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return no state: Lightning's loops store the number of batches that are done."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Ignore the state, which is empty."""


def loader(examples: Dataset[RawBatch], batches: Batches, *, num_workers: int, pin_memory: bool) -> ResumableLoader:
    """Return a DataLoader that indexes `examples` with whole batches of indices.

    Args:
        examples: the data set.
        batches: sampler of the batches.
        num_workers: number of processes that fetch batches.
        pin_memory: whether batches are copied to pinned memory.
    """
    if num_workers:
        kill_workers_at_exit()
    return ResumableLoader(
        examples,
        batch_sampler=batches,  # type: ignore[arg-type] # tensors of indices, where torch's annotation says lists
        collate_fn=_identity,  # type: ignore[arg-type] # its argument is a batch already
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        worker_init_fn=ignore_signals,
        generator=torch.Generator(),  # without it each new iterator would draw from the generator that training uses
    )


def _identity(batch: RawBatch) -> RawBatch:
    return batch


@functools.cache
def kill_workers_at_exit() -> None:
    """Have workers that still run when this process ends killed, for example after an error in the user's Dataset.

    Python would send them SIGTERM, which they ignore, and wait for them forever.
    """
    atexit.register(_kill_daemons)


def _kill_daemons() -> None:
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def ignore_signals(worker: int) -> None:
    """Ignore signals in a worker.

    A signal to the process group must not end the workers while the run still needs them to write a checkpoint.
    """
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)

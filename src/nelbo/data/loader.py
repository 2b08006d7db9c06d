"""Batches by indexing, and an order that depends only on the seed and the epoch.

Shapes: B batch.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from nelbo.data.arrays import Examples, RawBatch


class Batches(Sampler[Tensor]):
    """Batches of indices, (B,): every example exactly once an epoch, over all processes, none repeated.

    The order comes from (seed, epoch). Together, the batches of all processes are those that one process would have
    with a batch size as many times larger; each has its share of every one, equal but for one example at most.

    Args:
        num_examples: N.
        batch_size: B, the last batches may be smaller.
        shuffle: whether the order changes from epoch to epoch; else it is the data's own.
        seed: of the order.
        rank: this process.
        world_size: number of processes.
        epoch: the first one.
        start: how many of its batches are over already: a resumed run goes on behind them.
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
        """Itself: where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Lightning says which epoch begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.num_examples // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[Tensor]:
        epoch, start = self._first
        return iter(self.batches()[start if self.epoch == epoch else 0 :])

    def batches(self) -> list[Tensor]:
        """All batches of this epoch."""
        return [batch[self.rank :: self.world_size] for batch in self.together()]

    def together(self) -> list[Tensor]:
        """All batches of this epoch, each with the shares of all processes."""
        if self.shuffle:
            (state,) = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)
            order = torch.randperm(self.num_examples, generator=torch.Generator().manual_seed(int(state)))
        else:
            order = torch.arange(self.num_examples)
        together = list(order.split(self.batch_size * self.world_size))
        if len(together) > 1 and len(together[-1]) < self.world_size:  # nobody may go without
            together[-2:] = torch.cat(together[-2:]).tensor_split(2)
        return together


class ResumableLoader(DataLoader[RawBatch]):
    """A DataLoader that Lightning takes for resumable, as it is: `Batches` starts where the run stopped."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: how many batches are over stands in the state of Lightning's loops."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to do."""


def loader(examples: Examples, batches: Batches, *, num_workers: int, pin_memory: bool) -> ResumableLoader:
    """A DataLoader that takes whole batches from the data set."""
    return ResumableLoader(
        examples,
        batch_sampler=batches,  # type: ignore[arg-type] # tensors of indices, where torch's annotation says lists
        collate_fn=_identity,  # type: ignore[arg-type] # it is given the batch itself
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        worker_init_fn=_leave_signals_to_the_parent,
        generator=torch.Generator(),  # else each epoch's iterator draws from the numbers that training draws from
    )


def _identity(batch: RawBatch) -> RawBatch:
    return batch


def _leave_signals_to_the_parent(worker: int) -> None:
    """A signal to the whole process group must not take the workers from a run that is about to save itself."""
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)

"""The loaders of a LightningDataModule of a user's own, as a run needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nelbo.data.items import as_batch, check_input
from nelbo.data.loader import ignore_signals, kill_workers_at_exit
from nelbo.data.random_keys import KeyedStates
from nelbo.errors import DataError, first_line

__all__ = ["Outside", "OwnLoader", "rows_of"]


DIFFERENT_SHAPES = ("stack expects each tensor to be equal size", "resize storage that is not resizable")
"""What torch says, in this process and in a worker, if items of different shapes are put together."""


class OwnLoader:
    """A DataLoader whose random numbers in an epoch, such as the order, depend on (seed, epoch) alone.

    They do so as far as it draws them from the global generators of torch, NumPy and Python. A resumed run fetches
    the batches of its epoch again that were used, and drops them.

    Args:
        loader: the DataLoader of the user.
        where: what it is of, for messages.
        key: the seed, and a name of the loader.
        checks: whether batches are checked on the CPU, as the model will be given them.
        epoch: the first epoch.
        start: number of batches to skip in the first epoch.
        constant: whether all epochs have the random numbers of the first.
    """

    batch_sampler = None
    """The batches are not known by positions; Lightning and `has_positions` ask."""

    def __init__(
        self,
        loader: DataLoader[Any],
        where: str,
        key: tuple[int, str],
        *,
        checks: bool,
        epoch: int = 0,
        start: int = 0,
        constant: bool = False,
    ) -> None:
        self.loader, self.where, self.key = loader, where, key
        self.checks, self.constant = checks, constant
        self.epoch, self._first = epoch, (epoch, start)
        if loader.num_workers and not isinstance(loader.worker_init_fn, QuietWorker):
            loader.worker_init_fn = QuietWorker(loader.worker_init_fn)
            kill_workers_at_exit()

    @property
    def dataset(self) -> Any:
        """The Dataset of the loader."""
        return self.loader.dataset

    @property
    def sampler(self) -> OwnLoader:
        """The object itself, because Lightning looks for `set_epoch` there."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the current epoch, also of the user's sampler; Lightning calls this."""
        if self.constant:
            return
        self.epoch = epoch
        for sampler in (self.loader.sampler, self.loader.batch_sampler):
            if callable(set_epoch := getattr(sampler, "set_epoch", None)):
                set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        first, start = self._first
        skipped = start if self.epoch == first else 0
        states = KeyedStates(*self.key, self.epoch)
        with states:
            batches = iter(self.loader)
        for number in range(len(self.loader)):
            with states:
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                except RuntimeError as error:
                    raise self._explained(error) from None
            if number < skipped:
                continue
            if self.checks:
                self._check(batch)
            yield batch

    def _check(self, batch: Any) -> None:
        try:
            x = as_batch(batch).x
        except TypeError as error:
            raise DataError(f"{self.where}: {first_line(error)}") from error
        check_input(x, None, self.where)

    def _explained(self, error: RuntimeError) -> Exception:
        """Return one line for items of different shapes, and other errors as they are."""
        if not any(sign in str(error) for sign in DIFFERENT_SHAPES):
            return error
        return DataError(f"{self.where}: items of a batch have different shapes: all must have the same")

    def state_dict(self) -> dict[str, Any]:
        """Return no state: Lightning's loops store the number of batches that are done."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Ignore the state, which is empty."""


class QuietWorker:
    """The start of a worker of the user's, which then ignores signals to the process group.

    Args:
        own: the user's `worker_init_fn`; None for none.
    """

    def __init__(self, own: Callable[[int], None] | None) -> None:
        self.own = own

    def __call__(self, worker: int) -> None:
        ignore_signals(worker)
        if self.own is not None:
            self.own(worker)


@dataclass
class Outside:
    """What a DataModule sees in place of a Trainer when its batches are not those of training."""

    training: bool = False
    validating: bool = True
    testing: bool = False
    predicting: bool = False
    sanity_checking: bool = False
    current_epoch: int = 0
    global_rank: int = 0
    world_size: int = 1


def rows_of(loader: DataLoader[Any]) -> Tensor | None:
    """Return the positions of the examples of a loader in its Dataset, (N,); None for all of them."""
    sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
    indices = getattr(sampler, "indices", None)  # of a SubsetRandomSampler
    return None if indices is None else torch.as_tensor(indices, dtype=torch.int64)

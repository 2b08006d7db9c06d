"""Statistics of a batch whose examples are divided among several training processes.

Each process differentiates a loss of its own, and DDP averages the gradients. That suffices for a mean over examples.
Statistics that are not linear in the batch (a threshold on a mean, a covariance, pairs of codes) need the examples of
all processes. They are computed here such that gradients flow back to the process that holds an example: the average
over processes is then the gradient of one process with the whole batch.

Shapes: n examples of this process, N examples of all processes together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

if distributed.is_available():
    # Functions of `torch.distributed.nn` have the process group that is the default at the time of import as a default
    # argument. If a library imports it later, that group stays alive after its destruction, and its threads, which are
    # still running, sometimes abort the process at exit.
    import torch.distributed.nn


def several_processes() -> bool:
    """Return whether this process trains together with others."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


@dataclass(frozen=True)
class Shares:
    """The number of examples of a batch in each process.

    In a single process, `gather`, `mean` and `own` return their argument.

    Args:
        sizes: n of each process.
        rank: the index of this process.

    Example:
        A batch of 7 examples, of which process 0 has 4 and process 1 (this one) has 3:

        >>> shares = Shares((4, 3), rank=1)
        >>> shares.total, shares.start
        (7, 4)
        >>> shares.own(torch.arange(7))
        tensor([4, 5, 6])
    """

    sizes: tuple[int, ...]
    rank: int = 0

    @classmethod
    def of(cls, examples: Tensor) -> Shares:
        """Return the shares of the batch of which this process has `examples`, (n, ...).

        This is a collective operation: every process must call it.
        """
        if not several_processes():
            return cls((len(examples),))
        rank = distributed.get_rank()
        sizes = torch.zeros(distributed.get_world_size(), dtype=torch.long, device=examples.device)
        sizes[rank] = len(examples)
        distributed.all_reduce(sizes)
        return cls(tuple(sizes.tolist()), rank)

    @property
    def total(self) -> int:
        """N, the number of examples of all processes."""
        return sum(self.sizes)

    @property
    def start(self) -> int:
        """The index of this process's first example among those of all processes."""
        return sum(self.sizes[: self.rank])

    @property
    def weight(self) -> float:
        """The weight n P / N of this process's mean in the average over P processes; 1 if all n are equal."""
        return self.sizes[self.rank] * len(self.sizes) / self.total

    def own(self, everything: Tensor, dim: int = 0) -> Tensor:
        """Return this process's part of a gathered tensor: N becomes n along `dim`."""
        return everything.narrow(dim, self.start, self.sizes[self.rank])

    def gather(self, own: Tensor, dim: int = 0) -> Tensor:
        """Return the tensors of all processes, joined along `dim`: n becomes N. Gradients flow back."""
        if len(self.sizes) == 1:
            return own
        everything = own.new_zeros(*own.shape[:dim], self.total, *own.shape[dim + 1 :])
        indices = torch.arange(self.start, self.start + self.sizes[self.rank], device=own.device)
        return _sum_over_processes(everything.index_copy(dim, indices, own))

    def mean(self, own: Tensor) -> Tensor:
        """Return the mean over all N examples. Gradients flow back.

        Args:
            own: the mean over the n examples of this process.
        """
        if len(self.sizes) == 1:
            return own
        return _sum_over_processes(own * (self.sizes[self.rank] / self.total))


class _Sum(torch.autograd.Function):
    """The sum of a tensor over processes; in the backward pass, the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        """Return the sum of the values."""
        total = value.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the sum of the gradients."""
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


def _sum_over_processes(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total

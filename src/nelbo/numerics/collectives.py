"""Values of a whole batch whose examples are shared between processes that train together.

Each process differentiates a loss of its own, and DDP averages the gradients. What is a mean over examples needs no
more than that. What is not linear in the batch (a threshold on a mean, a covariance, pairs of codes) is computed here
from the examples of all processes; gradients flow back to the process that an example belongs to, so that the average
is the gradient that one process with the whole batch would have.

Shapes: n examples of this process, N of all together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

if distributed.is_available():
    # Its defaults name the group that there is when it is imported. Libraries import it late: the group would then
    # outlive its destruction, and a process now and then abort at its end (gloo's threads still run).
    import torch.distributed.nn


def several_processes() -> bool:
    """Whether this process trains together with others."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


@dataclass(frozen=True)
class Shares:
    """How many examples of a batch each process has. All methods but `of` return their argument in a single process.

    Args:
        sizes: n of each process.
        rank: this one.
    """

    sizes: tuple[int, ...]
    rank: int = 0

    @classmethod
    def of(cls, examples: Tensor) -> Shares:
        """Of a batch, of which this process has `examples`, (n, ...). Every process must call it."""
        if not several_processes():
            return cls((len(examples),))
        rank = distributed.get_rank()
        sizes = torch.zeros(distributed.get_world_size(), dtype=torch.long, device=examples.device)
        sizes[rank] = len(examples)
        distributed.all_reduce(sizes)
        return cls(tuple(sizes.tolist()), rank)

    @property
    def total(self) -> int:
        """N."""
        return sum(self.sizes)

    @property
    def start(self) -> int:
        """Where the examples of this process begin among all of them."""
        return sum(self.sizes[: self.rank])

    @property
    def weight(self) -> float:
        """What the mean over this process's examples counts beside those of the others: 1 where all have as many."""
        return self.sizes[self.rank] * len(self.sizes) / self.total

    def own(self, everything: Tensor, dim: int = 0) -> Tensor:
        """Of what was gathered, the part of this process."""
        return everything.narrow(dim, self.start, self.sizes[self.rank])

    def gather(self, own: Tensor, dim: int = 0) -> Tensor:
        """The tensors of all processes joined along the dimension of examples: n becomes N."""
        if len(self.sizes) == 1:
            return own
        everything = own.new_zeros(*own.shape[:dim], self.total, *own.shape[dim + 1 :])
        place = torch.arange(self.start, self.start + self.sizes[self.rank], device=own.device)
        return _sum_over_processes(everything.index_copy(dim, place, own))

    def mean(self, own: Tensor) -> Tensor:
        """The mean over all N examples, of `own`, that over the n of this process."""
        if len(self.sizes) == 1:
            return own
        return _sum_over_processes(own * (self.sizes[self.rank] / self.total))


class _Sum(torch.autograd.Function):
    """The sum over processes, and of the gradients that come back to it in each."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        """The sum."""
        total = value.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The sum of the gradients."""
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


def _sum_over_processes(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total

"""Processes that share an evaluation, as started by `torchrun --nproc_per_node=2 scripts/evaluate.py ...`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, distributed

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """This process among those that share the work. Tensors are exchanged on the CPU (gloo).

    Args:
        rank: number of this process, from 0.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    def join(self, mine: list[Tensor], total: int) -> list[Tensor]:
        """Return the parts of all processes, in order.

        Args:
            mine: the parts of this process: every `count`th of all parts, starting from number `rank`.
            total: number of parts of all processes.
        """
        if self.count == 1:
            return mine
        shares: list[list[Tensor]] = [[] for _ in range(self.count)]
        distributed.all_gather_object(shares, mine)
        return [shares[number % self.count][number // self.count] for number in range(total)]

    def same(self, value: Value) -> Value:
        """Return the value of the first process, in every process."""
        if self.count == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

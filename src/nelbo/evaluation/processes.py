"""Processes that share an evaluation: torchrun --nproc_per_node=2 scripts/evaluate.py ..."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, distributed

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """This process among those that share the work; what they exchange lies on the CPU (gloo).

    Args:
        rank: this one.
        count: how many.
    """

    rank: int = 0
    count: int = 1

    def join(self, mine: list[Tensor], total: int) -> list[Tensor]:
        """All `total` parts in order, of which this process has every `count`th from `rank` on."""
        if self.count == 1:
            return mine
        shares: list[list[Tensor]] = [[] for _ in range(self.count)]
        distributed.all_gather_object(shares, mine)
        return [shares[number % self.count][number // self.count] for number in range(total)]

    def same(self, value: Value) -> Value:
        """The first process's value, in all of them."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

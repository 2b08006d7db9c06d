"""Minimising a function of tensors by gradient descent, to check optima in closed form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def minimize(loss: Callable[..., Tensor], *start: Tensor, steps: int = 200) -> tuple[float, list[Tensor]]:
    """Return the smallest value of a function that L-BFGS finds from a start, and where it is."""
    found = [value.detach().clone(memory_format=torch.contiguous_format).requires_grad_() for value in start]
    optimizer = torch.optim.LBFGS(
        found,
        max_iter=steps,
        max_eval=3 * steps,
        tolerance_grad=1e-9,
        tolerance_change=1e-11,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(*found)
        value.backward()
        return value

    optimizer.step(closure)
    found = [value.detach() for value in found]
    return loss(*found).item(), found

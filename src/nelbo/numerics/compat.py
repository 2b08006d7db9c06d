"""Private interfaces of torch that any room may use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def norms(tensors: list[Tensor], order: float = 2.0) -> Tensor:
    """Return the norm of each tensor, (P,), in few kernels.

    Wraps torch's `_foreach_norm`, of which the public `get_total_norm` returns the total alone.
    """
    return torch.stack(torch._foreach_norm(tensors, order))


def can_skip_on_device(optimizer: Optimizer) -> bool:
    """Return whether an optimiser makes no update if a flag on its device says so.

    Wraps torch's `Optimizer._step_supports_amp_scaling`, which fused optimisers set for `GradScaler`.
    """
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def set_skip(optimizer: Optimizer, flag: Tensor | None) -> None:
    """Have an optimiser make no update if a flag on its device is 1; None removes the flag of the last update.

    Wraps torch's `Optimizer.found_inf`, which `GradScaler` sets; the optimiser leaves its state as it is too.

    Args:
        optimizer: one for which `can_skip_on_device` is true.
        flag: a scalar float32 tensor, 0 or 1.
    """
    if flag is not None:
        optimizer.found_inf = flag  # type: ignore[attr-defined]
    elif hasattr(optimizer, "found_inf"):
        del optimizer.found_inf


def skip_flag(optimizer: Any) -> Tensor | None:
    """Return the flag of `set_skip`, of an optimiser or of what pytorch-lightning wraps it in; None without one."""
    flag: Tensor | None = getattr(getattr(optimizer, "optimizer", optimizer), "found_inf", None)
    return flag

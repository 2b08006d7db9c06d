"""Random states of this process: those of Python, of numpy, and of torch on the CPU and on accelerators.

`torch.manual_seed` seeds every device, so code that seeds temporarily has to restore the states of all devices. That is
done here and nowhere else. A process has one kind of accelerator (cuda, mps, xpu, ...), which torch reports.

This module imports nothing of nelbo, so every other module may import it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def isolated(seed: int | None = None) -> Iterator[None]:
    """Run a block without effect on the random numbers drawn after it: all states are restored at its end.

    Args:
        seed: seed of torch's generators on all devices within the block; None keeps their current states.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> expected = torch.rand(3)
        >>> _ = torch.manual_seed(0)
        >>> with isolated(seed=7):
        ...     noise = torch.rand(3)
        >>> torch.equal(torch.rand(3), expected)
        True
    """
    torch_before, numpy_before, python_before = torch_states(), np.random.get_state(), random.getstate()
    try:
        if seed is not None:
            torch.manual_seed(seed)
        yield
    finally:
        restore(torch_before)
        np.random.set_state(numpy_before)
        random.setstate(python_before)


def states(device: torch.device | None = None) -> dict[str, Any]:
    """Return all random states as plain containers and tensors, which a checkpoint can hold.

    Args:
        device: the device that the process computes on.

    Returns:
        The entries of `torch_states`, and `numpy` and `python`.
    """
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, numbers, gauss = random.getstate()
    return {
        **torch_states(device),
        "numpy": [kind, torch.tensor(keys, dtype=torch.int64), position, has_gauss, cached],
        "python": [version, torch.tensor(numbers), gauss],
    }


def torch_states(device: torch.device | None = None, *, others: bool = True) -> dict[str, Any]:
    """Return torch's random states on the CPU and on the devices of an accelerator.

    Args:
        device: the device that the process computes on.
        others: whether to include the states of other devices.

    Returns:
        `torch`, the state of the CPU, and `accelerator`, with its `type`, its `states` by index, and the index of
        `device` (`own`). `accelerator` is None if none is in use: its generator then starts from the seed, which
        the state of the CPU holds.
    """
    result: dict[str, Any] = {"torch": torch.get_rng_state(), "accelerator": None}
    kind = torch.accelerator.current_accelerator()
    own = device.index or 0 if kind and device and device.type == kind.type else None
    if kind is None or not _in_use(kind) or (own is None and not others):
        return result
    module = torch.get_device_module(kind)
    indices = range(module.device_count()) if others else [own]
    by_index = {index: module.get_rng_state(index) for index in indices}
    return {**result, "accelerator": {"type": kind.type, "own": own, "states": by_index}}


def restore(saved: Mapping[str, Any], device: torch.device | None = None) -> None:
    """Restore the random states that `states` or `torch_states` returned.

    Args:
        saved: the states. Those of a kind of accelerator other than the current one are ignored. Earlier versions saved
            one CUDA device, as `cuda`.
        device: the device that the process computes on now; it gets the state of the device that the process computed
            on when the states were saved.
    """
    kind = torch.accelerator.current_accelerator()
    if kind is not None:
        _restore_accelerator(kind, saved, device)
    torch.set_rng_state(saved["torch"])
    if "numpy" in saved:
        name, keys, position, has_gauss, cached = saved["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    if "python" in saved:
        version, numbers, gauss = saved["python"]
        random.setstate((version, tuple(numbers.tolist()), gauss))


def _restore_accelerator(kind: torch.device, saved: Mapping[str, Any], device: torch.device | None) -> None:
    accelerator = saved.get("accelerator")
    if saved.get("cuda") is not None:  # saved by an earlier version
        accelerator = {"type": "cuda", "own": 0, "states": {0: saved["cuda"]}}
    if accelerator is None:  # it was not in use, so it starts from the seed
        torch.set_rng_state(saved["torch"])
        torch.manual_seed(torch.initial_seed())
        return
    if accelerator["type"] != kind.type:
        return
    module, by_index = torch.get_device_module(kind), dict(accelerator["states"])
    if device is not None and device.type == kind.type and accelerator["own"] is not None:
        by_index[device.index or 0] = by_index[accelerator["own"]]
    for index, state in by_index.items():
        if index < module.device_count():
            module.set_rng_state(state, index)


def _in_use(kind: torch.device) -> bool:
    """Return whether the accelerator may have drawn numbers; reading the states of one not in use would start it."""
    module = torch.get_device_module(kind)
    started = getattr(module, "is_initialized", module.is_available)  # Apple's MPS needs no initialization
    return bool(started())

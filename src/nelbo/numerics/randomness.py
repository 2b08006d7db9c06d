"""The random states of this process: Python's, numpy's, and torch's on the CPU and on accelerators.

`torch.manual_seed` seeds every device, so whoever seeds for a while has to put the states of all of them back. This is
the one place that does. torch has one kind of accelerator in a process (cuda, mps, xpu, ...); it is asked which.

This module imports nothing of ours, so every other may import it.
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
    """A block whose random numbers change nothing outside it: all states are put back at its end.

    Args:
        seed: of torch's numbers on all devices within the block; None goes on from where they are.
    """
    before, numpys, pythons = torch_states(), np.random.get_state(), random.getstate()
    try:
        if seed is not None:
            torch.manual_seed(seed)
        yield
    finally:
        restore(before)
        np.random.set_state(numpys)
        random.setstate(pythons)


def states(device: torch.device | None = None) -> dict[str, Any]:
    """All random states, as plain containers and tensors; `device` is the one that the process computes on."""
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, numbers, gauss = random.getstate()
    return {
        **torch_states(device),
        "numpy": [kind, torch.tensor(keys, dtype=torch.int64), position, has_gauss, cached],
        "python": [version, torch.tensor(numbers), gauss],
    }


def torch_states(device: torch.device | None = None, *, others: bool = True) -> dict[str, Any]:
    """Torch's random states: that of the CPU, and those of an accelerator's devices.

    Args:
        device: the one that the process computes on.
        others: whether the states of other devices are wanted too.

    Returns:
        `torch`, and `accelerator`: its `type`, its `states` by index, and which of them is `device` (`own`). None where
        there is none in use: such a one begins with the seed, which the state of the CPU remembers.
    """
    found: dict[str, Any] = {"torch": torch.get_rng_state(), "accelerator": None}
    kind = torch.accelerator.current_accelerator()
    own = device.index or 0 if kind and device and device.type == kind.type else None
    if kind is None or not _in_use(kind) or (own is None and not others):
        return found
    module = torch.get_device_module(kind)
    indices = range(module.device_count()) if others else [own]
    by_index = {index: module.get_rng_state(index) for index in indices}
    return {**found, "accelerator": {"type": kind.type, "own": own, "states": by_index}}


def restore(saved: Mapping[str, Any], device: torch.device | None = None) -> None:
    """Put back what `states` or `torch_states` gave, or earlier versions, which kept one CUDA device (`cuda`).

    Args:
        saved: the states. Those of another kind of accelerator than there is here are left out.
        device: the one that the process computes on now; it goes on from the state of the one that it computed on then.
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
    kept = saved.get("accelerator")
    if saved.get("cuda") is not None:  # of earlier versions
        kept = {"type": "cuda", "own": 0, "states": {0: saved["cuda"]}}
    if kept is None:  # it was not in use: it begins with the seed
        torch.set_rng_state(saved["torch"])
        torch.manual_seed(torch.initial_seed())
        return
    if kept["type"] != kind.type:
        return
    module, by_index = torch.get_device_module(kind), dict(kept["states"])
    if device is not None and device.type == kind.type and kept["own"] is not None:
        by_index[device.index or 0] = by_index[kept["own"]]
    for index, state in by_index.items():
        if index < module.device_count():
            module.set_rng_state(state, index)


def _in_use(kind: torch.device) -> bool:
    """Whether the accelerator can have drawn numbers; asking for its states would otherwise start it."""
    module = torch.get_device_module(kind)
    started = getattr(module, "is_initialized", module.is_available)  # Apple's needs no start
    return bool(started())

"""The devices that a run asks for, looked at before Lightning does: its refusals name no key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator

from nelbo.errors import ConfigError
from nelbo.training import compat

GPUS = {"cuda": CUDAAccelerator, "mps": MPSAccelerator}


def check_devices(trainer: Mapping[str, Any]) -> None:
    """Refuse an accelerator that is not here, and devices that it does not have.

    Args:
        trainer: options of Lightning's Trainer, in plain containers.

    Raises:
        ConfigError: naming `trainer.accelerator` or `trainer.devices`.
    """
    accelerator, devices = trainer.get("accelerator", "auto"), trainer.get("devices", "auto")
    here = next((name for name, kind in GPUS.items() if kind.is_available()), "cpu")
    if not _is_here(accelerator, here):
        hint = "there is none that torch can use here; trainer.accelerator=auto takes what there is"
        raise ConfigError("trainer.accelerator", accelerator, hint)
    indices = _indices(devices)
    if accelerator == "cpu" or here == "cpu":
        if indices or devices == -1:
            hint = f"is of GPUs, and this run is on the CPU: trainer.devices={len(indices) or 'auto'}"
            raise ConfigError("trainer.devices", devices, hint)
        return
    if accelerator not in ("auto", "gpu", here):
        return
    count = GPUS[here].auto_device_count()
    if len(set(indices)) < len(indices):
        raise ConfigError("trainer.devices", devices, "names a device twice")
    if any(index >= count for index in indices) or (isinstance(devices, int) and devices > count):
        indexed = f", whose indices are 0 to {count - 1}" if indices else ""
        raise ConfigError(
            "trainer.devices", devices, f"there are {count} here{indexed}; trainer.devices=auto takes all"
        )


def _is_here(accelerator: str, here: str) -> bool:
    """Whether an accelerator can be used, where a GPU of the kind `here` can, or none."""
    if accelerator == "gpu":
        return here != "cpu"
    return accelerator == "auto" or compat.accelerator_is_available(accelerator)


def _indices(devices: object) -> list[int]:
    """The indices of devices that are named one by one: `[0,1]`, or the text `0,1`; none of a number of them."""
    if isinstance(devices, str) and "," in devices:
        return [int(part) for part in devices.split(",") if part]
    return list(devices) if isinstance(devices, list) else []

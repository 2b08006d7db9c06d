"""Check of the devices that a run requests, so that an error names the config key, which Lightning's errors do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator

from nelbo.errors import ConfigError
from nelbo.training import compat

GPUS = {"cuda": CUDAAccelerator, "mps": MPSAccelerator}


def check_devices(trainer: Mapping[str, Any]) -> None:
    """Refuse an accelerator or devices that this machine does not have.

    Args:
        trainer: options of Lightning's Trainer, in plain containers.

    Raises:
        ConfigError: naming `trainer.accelerator` or `trainer.devices`.

    Example:
        >>> check_devices({"accelerator": "cpu", "devices": [0, 1]})
        Traceback (most recent call last):
        nelbo.errors.ConfigError: trainer.devices=[0, 1]: selects GPUs, but this run uses the CPU; use trainer.devices=2
    """
    accelerator, devices = trainer.get("accelerator", "auto"), trainer.get("devices", "auto")
    available = next((name for name, kind in GPUS.items() if kind.is_available()), "cpu")
    if not _is_available(accelerator, available):
        hint = "is not available on this machine; trainer.accelerator=auto uses what is available"
        raise ConfigError("trainer.accelerator", accelerator, hint)
    indices = _indices(devices)
    if accelerator == "cpu" or available == "cpu":
        if indices or devices == -1:
            hint = f"selects GPUs, but this run uses the CPU; use trainer.devices={len(indices) or 'auto'}"
            raise ConfigError("trainer.devices", devices, hint)
        return
    if accelerator not in ("auto", "gpu", available):
        return
    count = GPUS[available].auto_device_count()
    if len(set(indices)) < len(indices):
        raise ConfigError("trainer.devices", devices, "names a device twice")
    if any(index >= count for index in indices) or (isinstance(devices, int) and devices > count):
        indexed = f", with indices 0 to {count - 1}" if indices else ""
        hint = f"this machine has {count}{indexed}; trainer.devices=auto uses all of them"
        raise ConfigError("trainer.devices", devices, hint)


def _is_available(accelerator: str, available: str) -> bool:
    """Return whether an accelerator can be used on a machine with this kind of GPU ("cpu" if it has none)."""
    if accelerator == "gpu":
        return available != "cpu"
    return accelerator == "auto" or compat.accelerator_is_available(accelerator)


def _indices(devices: object) -> list[int]:
    """Return the indices of devices that are listed, as `[0,1]` or the text `0,1`; empty for a number of devices."""
    if isinstance(devices, str) and "," in devices:
        return [int(part) for part in devices.split(",") if part]
    return list(devices) if isinstance(devices, list) else []

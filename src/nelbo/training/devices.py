"""Checks of the devices that a run requests, with messages that name the config key, which Lightning's do not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator

from nelbo.errors import ConfigError
from nelbo.training import compat

CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}
"""Names of instructions for products of bfloat16 numbers, of x86 and of ARM processors."""

SLOW_BFLOAT16 = (
    "trainer.precision=bf16-mixed: this processor has no instructions for bfloat16, so training is slower than with "
    "trainer.precision=32-true, by a factor of 2 to 6 where it was measured"
)

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


def chosen_precision(trainer: Mapping[str, Any]) -> str:
    """Return the precision of training: that of the config, or for `auto` the faster one on this machine.

    That is bf16-mixed where the processor, or the first CUDA GPU if GPUs train, has instructions for bfloat16, and else
    32-true.

    Args:
        trainer: options of Lightning's Trainer, in plain containers.

    Example:
        >>> chosen_precision({"precision": "32-true"})
        '32-true'
    """
    precision: str = trainer.get("precision", "32-true")
    if precision != "auto":
        return precision
    accelerator = trainer.get("accelerator", "auto")
    available = next((name for name, kind in GPUS.items() if kind.is_available()), "cpu")
    device = available if accelerator in ("auto", "gpu") else accelerator
    if device == "cuda":
        has_instructions = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_instructions = device == "cpu" and has_bfloat16() is True
    return "bf16-mixed" if has_instructions else "32-true"


def has_bfloat16(cpu_info: Path = CPU_INFO) -> bool | None:
    """Return whether the processor has instructions for bfloat16; None where it is not known, as outside of Linux.

    Args:
        cpu_info: the file in which Linux describes the processor.
    """
    try:
        listed = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpu_info.read_text(), re.MULTILINE)
    except OSError:
        return None
    return bool(BFLOAT16 & set(listed[0].split())) if listed else None


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

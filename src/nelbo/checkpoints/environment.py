"""The software and hardware that a result was computed with: versions, commit, processor, accelerator."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from nelbo import __version__

CHECKOUT = Path(__file__).parents[3]
"""Root of the repository, if nelbo is used from a checkout."""

CODE = ("src", "conf", "train.py", "scripts")
"""Files and folders of the repository whose changes are reported."""

GIT_SECONDS = 20.0
"""Time limit for git, in seconds."""

CPU_NAMES = re.compile(r"^(?:model name|Model|Hardware|cpu model)\s*:\s*(.+)$", re.MULTILINE)
"""Lines of /proc/cpuinfo that name the processor, on different architectures."""


def environment(device: torch.device, processes: int = 1) -> dict[str, Any]:
    """Return the versions and the hardware of this process, in plain containers.

    Args:
        device: the device that it computes on.
        processes: number of processes that share the work.

    Returns:
        A dict with the keys `nelbo`, `torch`, `lightning`, `hydra` and `python` (versions), `commit` (as `commit`
        returns it), `processor`, `accelerator` (the device's name; None on a CPU) and `processes`.
    """
    return {
        "nelbo": __version__,
        "commit": commit(CHECKOUT),
        "torch": str(torch.__version__),
        "lightning": version("pytorch-lightning"),
        "hydra": version("hydra-core"),
        "python": platform.python_version(),
        "processor": processor(),
        "accelerator": accelerator(device),
        "processes": processes,
    }


def commit(checkout: Path) -> str | None:
    """Return the commit of a git checkout, followed by `+changes` if files of the code differ from that commit.

    Returns:
        None outside a git checkout, or where git fails.
    """
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "status", "--porcelain=v2", "--branch", "--", *CODE]
    unset = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # set in the hooks of another repository
    variables = {name: value for name, value in os.environ.items() if name not in unset} | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        result = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):  # git is not installed, or its disk does not respond
        return None
    head = re.search(r"^# branch\.oid ([0-9a-f]{40,})$", result.stdout, re.MULTILINE)
    if result.returncode or not head:
        return None
    changed = any(not line.startswith("#") for line in result.stdout.splitlines())
    return head[1] + ("+changes" if changed else "")


def processor() -> str:
    """Return the processor's name as the operating system reports it."""
    try:
        if match := CPU_NAMES.search(Path("/proc/cpuinfo").read_text()):
            return match[1].strip()
    except OSError:  # not Linux
        pass
    if platform.system() == "Darwin":
        result = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        if result.stdout.strip():
            return result.stdout.strip()
    return platform.processor() or platform.machine()


def accelerator(device: torch.device) -> str | None:
    """Return the name of a device, or None for the CPU."""
    if device.type == "cpu":
        return None
    get_name = getattr(torch.get_device_module(device), "get_device_name", None)
    return str(get_name(device)) if get_name else device.type

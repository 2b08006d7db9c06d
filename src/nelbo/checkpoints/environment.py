"""What a number was made with: versions, commit, processor, accelerator."""

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
"""The root of the repository, if this package lies in one."""

CODE = ("src", "conf", "train.py", "scripts")
GIT_SECONDS = 20.0
CPU_NAMES = re.compile(r"^(?:model name|Model|Hardware|cpu model)\s*:\s*(.+)$", re.MULTILINE)


def environment(device: torch.device, processes: int = 1) -> dict[str, Any]:
    """Versions and hardware of this process, in plain containers.

    Args:
        device: the one that it computes on.
        processes: how many share the work.

    Returns:
        `nelbo`, `commit` (of nelbo, with `+changes` where its files differ from that; None outside a git checkout, or
        where git says nothing), `torch`, `lightning`, `hydra`, `python`, `processor`, `accelerator` (the device's name,
        None on a CPU) and `processes`.
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
    """The commit of a git checkout, with `+changes` if files of the code differ from it; None where git knows none."""
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "status", "--porcelain=v2", "--branch", "--", *CODE]
    others = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # in a hook of another repository
    quiet = {name: value for name, value in os.environ.items() if name not in others} | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=quiet, timeout=GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):  # git is not installed, or its disk hangs
        return None
    head = re.search(r"^# branch\.oid ([0-9a-f]{40,})$", done.stdout, re.MULTILINE)
    if done.returncode or not head:
        return None
    changed = any(not line.startswith("#") for line in done.stdout.splitlines())
    return head[1] + ("+changes" if changed else "")


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        if found := CPU_NAMES.search(Path("/proc/cpuinfo").read_text()):
            return found[1].strip()
    except OSError:  # not Linux
        pass
    if platform.system() == "Darwin":
        done = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        if done.stdout.strip():
            return done.stdout.strip()
    return platform.processor() or platform.machine()


def accelerator(device: torch.device) -> str | None:
    """The name of a device that is no CPU, else None."""
    if device.type == "cpu":
        return None
    named = getattr(torch.get_device_module(device), "get_device_name", None)
    return str(named(device)) if named else device.type

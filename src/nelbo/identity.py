"""Which runs are the same run: a digest of what decides the result, and of nothing else."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any

MACHINE_FACTS = ("trainer.accelerator", "trainer.strategy", "data.num_workers", "threads", "trial")
"""What may differ between machines, or between a search and a grid, without another result being meant."""

LENGTH = 16


def identity(plain: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a run's resolved config without machine facts.

    Devices and nodes count: `data.batch_size` is that of each process, so they change what is trained.

    Args:
        plain: the config as plain containers, with every interpolation resolved.
    """
    told = copy.deepcopy({key: value for key, value in plain.items() if key != "hydra"})
    for fact in MACHINE_FACTS:
        *groups, key = fact.split(".")
        holder: Any = told
        for group in groups:
            holder = holder.get(group, {})
        holder.pop(key, None)
    text = json.dumps(told, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]

"""Which runs are the same run: a digest of what decides the result, and of nothing else."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

MACHINE_FACTS = (
    "trainer.accelerator",
    "trainer.strategy",
    "data.num_workers",
    "threads",
    "trial",
    "resume",
    "resume_changes",
    "allow_targets",
)
"""What may differ between machines, searches and grids, or starts of a run, without another result being meant."""

FREE_TO_CHANGE = (*MACHINE_FACTS, "budget", "trainer.max_epochs", "trainer.max_steps", "trainer.max_time")
"""What may differ when a run goes on. What the budget says stands elsewhere too, where it is compared."""

LENGTH = 16


def identity(plain: Mapping[str, Any], without: Sequence[str] = MACHINE_FACTS) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a run's resolved config without machine facts.

    Devices and nodes count: `data.batch_size` is that of each process, so they change what is trained.

    Args:
        plain: the config as plain containers, with every interpolation resolved.
        without: dotted keys that do not count.
    """
    told = copy.deepcopy(dict(plain))
    for fact in without:
        *groups, key = fact.split(".")
        holder: Any = told
        for group in groups:
            holder = holder.get(group, {})
        holder.pop(key, None)
    text = json.dumps(_same_numbers(told), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def _same_numbers(value: Any) -> Any:
    """1 and 1.0 are written alike: which one is typed means nothing."""
    if isinstance(value, Mapping):
        return {key: _same_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_same_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value

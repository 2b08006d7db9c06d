"""Keys of a config: how one is looked up, and which are set on the command line of every run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def select(plain: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    value: Any = plain
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


TYPED_KEYS = (
    "model.latent_dim",
    "objective.beta",
    "objective.num_samples",
    "data.batch_size",
    "data.validation_size",
    "optimizer.lr",
    "trainer.max_epochs",
    "seed",
)
"""The keys that people type: in `--help`, in suggestions and in TensorBoard's hparams tab."""

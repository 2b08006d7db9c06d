"""Config keys: lookup of a dotted key, and the keys that are most often set on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def select(plain: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key; None if there is none.

    Example:
        >>> select({"optimizer": {"lr": 0.001}}, "optimizer.lr")
        0.001
    """
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
"""Keys that are shown in `--help`, in suggestions and in TensorBoard's hparams tab."""

"""What fills the slots of a model, looked through before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nelbo.errors import ConfigError

SLOTS = {slot: slot for slot in ("posterior", "prior", "likelihood")} | {"encoder": "model", "decoder": "model"}
"""The slots of a VAE, and the group that fills each."""


def check_slots(model: Mapping[str, Any]) -> None:
    """Refuse a model of ours with a slot that nothing can be built for.

    Raises:
        ConfigError: naming the slot and how it is filled.
    """
    if model["_target_"] != "nelbo.models.VAE":
        return
    for slot, chosen in SLOTS.items():
        part = model.get(slot)
        if not isinstance(part, Mapping) or "_target_" not in part:
            name = part if isinstance(part, str) else "..."
            hint = f"a model needs one: choose with {chosen}={name}, or give a mapping with its _target_"
            raise ConfigError(f"model.{slot}", part, hint)
        if part.get("_partial_") is not True:
            hint = "must be true: the model gives it the rest of its arguments"
            raise ConfigError(f"model.{slot}._partial_", part.get("_partial_"), hint)

"""The parts of a run and what fills the slots of its model, looked through before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nelbo.errors import ConfigError, NelboError

SLOTS = {slot: slot for slot in ("posterior", "prior", "likelihood")} | {"encoder": "model", "decoder": "model"}
"""The slots of a VAE, and the group that fills each."""


NO_GROUPS = {"guard": "a run needs it, for it ends training that is not finite; guard.skip_above=null skips no updates"}
"""What to say of a part that is missing and that no group chooses."""


def refuse_missing(key: str, plain: Mapping[str, Any]) -> None:
    """Refuse a config without a part that every run needs.

    Raises:
        NelboError: naming it and how it is chosen.
    """
    part = plain.get(key)
    if isinstance(part, Mapping) and "_target_" in part:
        return
    hint = NO_GROUPS.get(key, f"a run needs one: choose with {key}=...")
    if key not in plain:
        raise NelboError(f"~{key}: {hint}")
    if isinstance(part, Mapping):
        raise ConfigError(f"{key}._target_", None, hint)
    raise ConfigError(key, part, hint)


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
            hint = f"a model needs one: choose with {chosen}=..., or give a mapping with its _target_"
            raise ConfigError(f"model.{slot}", part, hint)
        if part.get("_partial_") is not True:
            hint = "must be true: the model gives it the rest of its arguments"
            raise ConfigError(f"model.{slot}._partial_", part.get("_partial_"), hint)
